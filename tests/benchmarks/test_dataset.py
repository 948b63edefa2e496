import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.dataset import load
from conduit_demo.outcomes import RecordedDataError, read_outcomes
from conduit_policy import Request, TextFeaturizer

Tables = tuple[dict[str, list[Any]], dict[str, list[Any]]]


def test_utility_takes_off_the_scaled_log_cost(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    # The means stay 0.01 and 1; the dear model's first two requests cost the scale's middle and more than its end.
    outcomes["cost_usd"][1], outcomes["cost_usd"][3] = 0.1, 1.9
    data = load(write(tmp_path / "set", prompts, outcomes))
    assert data.name == "set"
    assert data.mean_cost == pytest.approx([0.01, 1.0])
    assert data.scaled_cost[:3] == pytest.approx(np.array([[0.0, 0.5], [0.0, 1.0], [0.0, 1.0]]))
    assert data.utility(0.2)[:2] == pytest.approx(np.array([[0.25, 0.65], [0.25, 0.55]]))


def test_free_and_equally_dear_models_have_a_scale_too(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    free = load(write(tmp_path / "free", prompts, {**outcomes, "cost_usd": [0.0, 1.0] * 60}))
    assert free.scaled_cost[0].tolist() == [0.0, 1.0]
    equal = load(write(tmp_path / "equal", prompts, {**outcomes, "cost_usd": [0.5, 0.5] * 60}))
    assert not equal.scaled_cost.any()


def test_contexts_are_those_of_the_shipped_featurizer(tmp_path: Path, write: Any, tables: Tables) -> None:
    data = load(write(tmp_path, *tables))
    message = {"role": "user", "content": "What is 7 + 7?"}
    assert data.contexts[7].tolist() == TextFeaturizer()(Request(messages=[message])).tolist()


def test_token_prices_are_found_in_the_bills(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    random = np.random.default_rng(1)
    asked, answered = random.integers(10, 500, (2, 120))
    price = np.array([[1e-6, 4e-6], [5e-6, 2e-5]])[np.arange(120) % 2]
    bills = (asked * price[:, 0] + answered * price[:, 1]).tolist()
    tokens = {"input_tokens": asked.tolist(), "output_tokens": answered.tolist(), "cost_usd": bills}
    found = load(write(tmp_path, prompts, {**outcomes, **tokens})).token_prices
    assert found == pytest.approx(np.array([[1e-6, 4e-6], [5e-6, 2e-5]]))
    tokens["input_tokens"] = [None, *asked.tolist()[1:]]
    assert load(write(tmp_path, prompts, {**outcomes, **tokens})).token_prices is None


def test_a_wrong_value_is_told_with_its_row(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    outcomes["quality"][17] = 1.5
    outcomes["quality"][19] = math.nan
    with pytest.raises(RecordedDataError, match=r"outcomes\.parquet: row 17 has quality 1\.5 \(and 1 more like it\)"):
        load(write(tmp_path, prompts, outcomes))


def test_a_missing_value_is_told_with_its_row(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    prompts["text"][4] = None
    with pytest.raises(RecordedDataError, match=r"prompts\.parquet: row 4 has no text; fill it in or drop the row"):
        load(write(tmp_path, prompts, outcomes))


def test_a_repeated_prompt_id_is_told_with_both_rows(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    prompts["prompt_id"] = [*prompts["prompt_id"][:9], "p2", *prompts["prompt_id"][10:]]
    with pytest.raises(RecordedDataError, match="row 9 has prompt_id 'p2', which row 2 has already"):
        load(write(tmp_path, prompts, outcomes))


def test_outcomes_of_unlisted_prompts_and_other_columns_are_ignored(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    outcomes = {name: [*column, column[0]] for name, column in outcomes.items()}
    outcomes["prompt_id"][-1] = "unlisted"
    outcomes["note"] = ["x"] * 121
    read = read_outcomes(write(tmp_path, prompts, outcomes))
    assert read.quality.shape == (60, 2)
    assert math.isnan(read.latency_s[0, 0])
    assert read.latency_s[0, 1] == 2.5


def test_too_little_data_is_refused(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    few = {name: column[:20] for name, column in prompts.items()}
    with pytest.raises(RecordedDataError, match="20 prompts; a replay needs at least 50"):
        load(write(tmp_path, few, outcomes))
    one = {name: column[::2] for name, column in outcomes.items()}
    with pytest.raises(RecordedDataError, match="one model only, 'cheap'"):
        load(write(tmp_path, prompts, one))
