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
    assert data.contexts(np.array([7]))[0].tolist() == TextFeaturizer()(Request(messages=[message])).tolist()


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
    with pytest.raises(RecordedDataError, match="only one model, 'cheap'"):
        load(write(tmp_path, prompts, one))


def refused(folder: Path) -> str:
    with pytest.raises(RecordedDataError) as caught:
        load(folder)
    return str(caught.value).removeprefix(f"{folder}/")


def test_of_many_prompts_a_part_is_drawn_the_same_every_time(tmp_path: Path, write: Any, tables: Tables) -> None:
    folder = write(tmp_path, *tables)
    everything, part = read_outcomes(folder), read_outcomes(folder, max_prompts=25)
    assert (len(part), part.recorded, everything.recorded) == (25, 60, 60)
    rows = np.array([everything.prompt_ids.index(prompt_id) for prompt_id in part.prompt_ids])
    assert (np.diff(rows) > 0).all()
    assert rows[-1] >= 25
    same = everything.take(rows)
    assert part.texts == same.texts
    assert np.array_equal(part.quality, same.quality)
    assert np.array_equal(part.latency_s, same.latency_s, equal_nan=True)
    assert read_outcomes(folder, max_prompts=25).prompt_ids == part.prompt_ids
    assert read_outcomes(folder, max_prompts=60).prompt_ids == everything.prompt_ids


def test_files_are_the_same_read_in_pieces_as_at_once(
    tmp_path: Path, write: Any, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, outcomes = tables
    shuffled = np.random.default_rng(3).permutation(120).tolist()
    outcomes["cost_usd"] = [0.01 * (row + 1) for row in range(120)]
    folder = write(tmp_path, prompts, {name: [column[row] for row in shuffled] for name, column in outcomes.items()})
    whole = read_outcomes(folder)
    assert whole.cost_usd.ravel().tolist() == outcomes["cost_usd"]
    monkeypatch.setattr("conduit_demo.outcomes._PIECE", 7)
    for max_prompts in (None, 25):
        pieces, once = read_outcomes(folder, max_prompts=max_prompts), whole
        if max_prompts is not None:
            once = whole.take(np.array([whole.prompt_ids.index(prompt_id) for prompt_id in pieces.prompt_ids]))
        assert (pieces.texts, pieces.models) == (once.texts, once.models)
        assert pieces.cost_usd.tolist() == once.cost_usd.tolist()
    outcomes["quality"][100] = -0.5
    assert refused(write(tmp_path, prompts, outcomes)).startswith("outcomes.parquet: row 100 has quality -0.5; ")
    # Errors are reported even in rows that would not be drawn.
    with pytest.raises(RecordedDataError, match="row 100 has quality"):
        read_outcomes(tmp_path, max_prompts=1)


def test_what_may_be_unknown_may_be_left_out(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    for name in ("latency_s", "input_tokens", "output_tokens"):
        del outcomes[name]
    data = load(write(tmp_path, prompts, outcomes))
    assert np.isnan(data.outcomes.latency_s).all()
    assert data.token_prices is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("quality", 7, -0.1), "row 7 has quality -0.1; it must lie in 0..1"),
        (("quality", 7, None), "row 7 has no quality; fill it in or drop the prompt or the model"),
        (("cost_usd", 7, math.inf), "row 7 has cost_usd inf; it must lie in 0..1e+06"),
        (("latency_s", 7, -2.0), "row 7 has latency_s -2; it must lie in 0..1e+06"),
        (("model", 0, None), "row 0 has no model; fill it in or drop the prompt or the model"),
        (
            ("prompt_id", 7, "p1"),
            "prompt 'p3' has no outcome for model 'dear'; every prompt needs exactly one row per model",
        ),
        (
            ("model", 1, "cheap"),
            "prompt 'p0' has no outcome for model 'dear'; every prompt needs exactly one row per model",
        ),
    ],
)
def test_what_cannot_be_used_is_told(
    tmp_path: Path, write: Any, tables: Tables, change: tuple[str, int, Any], said: str
) -> None:
    prompts, outcomes = tables
    column, row, value = change
    outcomes[column][row] = value
    assert refused(write(tmp_path, prompts, outcomes)) == f"outcomes.parquet: {said}"


def test_two_outcomes_of_one_model_are_told(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    twice = {name: [*column, column[5]] for name, column in outcomes.items()}
    assert "prompt 'p2' has more than one outcome for model 'dear'; every" in refused(write(tmp_path, prompts, twice))


def test_columns_of_another_kind_are_told(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    told = refused(write(tmp_path, prompts, {**outcomes, "quality": ["good"] * 120}))
    assert told.startswith("outcomes.parquet: column quality holds string and cannot be read as double, in row 0 ")
    told = refused(write(tmp_path, {**prompts, "text": [b"\xff"] * 60}, outcomes))
    assert told.startswith("prompts.parquet: column text holds binary and cannot be read as string")
    told = refused(write(tmp_path, prompts, {name: outcomes[name] for name in outcomes if name != "cost_usd"}))
    assert told == "outcomes.parquet has no column cost_usd; it needs prompt_id, model, quality, cost_usd"
    assert "no rows" in refused(write(tmp_path, prompts, {name: column[:0] for name, column in outcomes.items()}))
    write(tmp_path, prompts, outcomes)
    (tmp_path / "outcomes.parquet").write_bytes(b"not what it should be")
    assert "outcomes.parquet cannot be read as Parquet: " in refused(tmp_path)


def test_models_that_no_policy_could_name_are_refused(tmp_path: Path, write: Any, tables: Tables) -> None:
    prompts, outcomes = tables
    told = refused(write(tmp_path, prompts, {**outcomes, "model": ["", "dear"] * 60}))
    assert told.startswith("outcomes.parquet: model '' cannot be the name of a deployment: ")
    many = {
        name: [prompt for prompt in prompts["prompt_id"] for _ in range(257)]
        if name == "prompt_id"
        else [0.5] * 60 * 257
        for name in ("prompt_id", "quality", "cost_usd")
    }
    told = refused(write(tmp_path, prompts, {**many, "model": [f"m{number}" for number in range(257)] * 60}))
    assert told == "outcomes.parquet has 257 models; a policy chooses among at most 256: drop some"
