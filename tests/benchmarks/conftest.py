from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MODELS = ("coder", "poet", "bungler")
SENTENCES = {
    "coder": "write a python function that sorts the list of numbers and returns an index",
    "poet": "compose some tender verses about autumn rivers, moonlight and a lost summer",
}
Table = Mapping[str, Sequence[Any]]
Write = Callable[[Path, Table, Table], Path]


def _write(folder: Path, prompts: Table, outcomes: Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(prompts)), folder / "prompts.parquet")
    pq.write_table(pa.table(dict(outcomes)), folder / "outcomes.parquet")
    return folder


@pytest.fixture(scope="session")
def write() -> Write:
    return _write


@pytest.fixture
def tables() -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """60 prompts and 2 models, cheap and dear, for tests to change and write."""
    ids = [f"p{number}" for number in range(60)]
    prompts = {"prompt_id": ids, "text": [f"What is {number} + {number}?" for number in range(60)]}
    outcomes = {
        "prompt_id": [prompt for prompt in ids for _ in range(2)],
        "model": ["cheap", "dear"] * 60,
        "quality": [0.25, 0.75] * 60,
        "cost_usd": [0.01, 1.0] * 60,
        "latency_s": [None, 2.5] * 60,
        "input_tokens": [100, 100] * 60,
        "output_tokens": [10, 10] * 60,
    }
    return prompts, outcomes


@pytest.fixture(scope="session")
def easy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 prompts of two kinds; one model is right on each kind, the third is right on none and costs most."""
    random = np.random.default_rng(7)
    count = 900
    kinds = [("coder", "poet")[kind] for kind in random.integers(2, size=count)]
    texts = [
        f"{' '.join(random.permutation(SENTENCES[kind].split())[:8])} {number}" for number, kind in enumerate(kinds)
    ]
    ids = [f"p{number}" for number in range(count)]
    quality = np.array([[0.9 * (model == kind) + 0.05 for model in MODELS] for kind in kinds])
    quality[:, 2] = 0.0
    cost = np.array([0.001, 0.002, 0.01]) * random.uniform(0.8, 1.2, (count, 3))
    unknown = [None] * (3 * count)
    return _write(
        tmp_path_factory.mktemp("data") / "easy",
        {"prompt_id": ids, "text": texts, "task": kinds},
        {
            "prompt_id": [prompt for prompt in ids for _ in MODELS],
            "model": list(MODELS) * count,
            "quality": quality.ravel().tolist(),
            "cost_usd": cost.ravel().tolist(),
            "latency_s": unknown,
            "input_tokens": unknown,
            "output_tokens": unknown,
        },
    )
