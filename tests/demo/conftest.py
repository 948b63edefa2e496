"""Small worlds for the demo's tests."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from conduit_demo.world import Table


@pytest.fixture
def table() -> Table:
    """Four requests on two models, with numbers that are easy to check by hand."""
    return Table(
        models=("dear", "cheap"),
        quality=np.array([[1.0, 0.5], [1.0, 0.0], [0.5, 1.0], [1.0, 0.5]]),
        cost_usd=np.array([[0.04, 0.001], [0.08, 0.002], [0.04, 0.001], [0.04, 0.004]]),
        latency_s=np.array([[4.0, 1.0], [8.0, 2.0], [4.0, 1.0], [4.0, 1.0]]),
        failures=np.array([[0, 0], [1, 0], [0, 3], [0, 1]]),
        lost_s=np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.9], [0.0, 0.25]]),
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of recorded outcomes: 40 prompts, 3 models, no latencies; one model is right, and dear."""
    ids = [f"p{number}" for number in range(40)]
    models = ("always-right", "never-right", "sometimes-right")
    pq.write_table(
        pa.table({"prompt_id": ids, "text": [f"What is {n} times {n}?" for n in range(40)], "task": ["sum"] * 40}),
        tmp_path / "prompts.parquet",
    )
    rows = [
        {
            "prompt_id": prompt_id,
            "model": model,
            "quality": (1.0, 0.0, float(number % 2))[column],
            "cost_usd": (0.01, 0.0001, 0.001)[column] * (1 + number % 3),
            "latency_s": None,
            "input_tokens": 10,
            "output_tokens": None,
        }
        for number, prompt_id in enumerate(ids)
        for column, model in enumerate(models)
    ]
    types = [("prompt_id", pa.string()), ("model", pa.string()), ("quality", pa.float64()), ("cost_usd", pa.float64())]
    types += [("latency_s", pa.float64()), ("input_tokens", pa.int64()), ("output_tokens", pa.int64())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types)), tmp_path / "outcomes.parquet")
    return tmp_path
