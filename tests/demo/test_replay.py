import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conduit_demo.replay import RecordedDataError, ReplayedWorld


def test_recorded_outcomes_come_back_as_they_were(recorded: Path) -> None:
    world = ReplayedWorld(recorded, requests=1000, seed=3)
    assert world.models == ("always-right", "never-right", "sometimes-right")
    assert len(world.texts) == 40
    for row, text in enumerate(world.texts):
        number = int(text.split()[2])
        reply = world.reply(row, 2, 0)
        assert (reply.status, reply.latency_s, reply.input_tokens, reply.output_tokens) == (200, 0.0, 10, 0)
        assert reply.cost_usd == pytest.approx(0.001 * (1 + number % 3))
        assert world.grade(row, reply.text) == float(number % 2)
        assert world.table.quality[row].tolist() == [1.0, 0.0, float(number % 2)]
        assert math.isnan(world.table.latency_s[row, 0])


def test_seed_and_number_decide_the_order(recorded: Path) -> None:
    one, same = ReplayedWorld(recorded, 10, 1), ReplayedWorld(recorded, 10, 1)
    assert list(one.texts) == list(same.texts)
    assert len(one.texts) == 10
    assert set(one.texts) != set(ReplayedWorld(recorded, 10, 2).texts)
    assert list(ReplayedWorld(recorded, 40, 1).texts[:10]) == list(one.texts)


def test_a_text_that_occurs_twice_is_used_once(recorded: Path) -> None:
    prompts = pq.read_table(recorded / "prompts.parquet")
    texts = ["the same", *prompts["text"].to_pylist()[1:39], "the same"]
    pq.write_table(prompts.set_column(1, "text", pa.array(texts)), recorded / "prompts.parquet")
    world = ReplayedWorld(recorded, 1000, 1)
    assert len(world.texts) == 39
    assert sorted(set(world.texts)) == sorted(world.texts)


def _rewrite(path: Path, column: str, value: object, row: int = 0) -> None:
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values)), path)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("quality", 1.5, "quality"),
        ("quality", None, "quality"),
        ("quality", math.nan, "quality"),
        ("cost_usd", -1.0, "cost_usd"),
        ("cost_usd", None, "cost_usd"),
        ("latency_s", -2.0, "latency_s"),
        ("model", None, "model"),
        ("prompt_id", None, "prompt_id"),
    ],
)
def test_values_out_of_bounds_are_named(recorded: Path, column: str, value: object, said: str) -> None:
    _rewrite(recorded / "outcomes.parquet", column, value)
    with pytest.raises(RecordedDataError, match=said) as caught:
        ReplayedWorld(recorded, 10, 1)
    assert "outcomes.parquet" in str(caught.value)


def test_a_missing_file_or_column_is_named(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordedDataError, match=r"prompts\.parquet does not exist"):
        ReplayedWorld(tmp_path / "nowhere", 10, 1)
    outcomes = pq.read_table(recorded / "outcomes.parquet")
    pq.write_table(outcomes.drop_columns(["cost_usd"]), recorded / "outcomes.parquet")
    with pytest.raises(RecordedDataError, match="cost_usd"):
        ReplayedWorld(recorded, 10, 1)


def test_a_file_that_is_no_parquet_or_of_the_wrong_type_is_named(recorded: Path) -> None:
    (recorded / "prompts.parquet").write_text("prompt_id,text\n1,hello\n")
    with pytest.raises(RecordedDataError, match=r"prompts\.parquet"):
        ReplayedWorld(recorded, 10, 1)


def test_a_wrong_type_is_named(recorded: Path) -> None:
    outcomes = pq.read_table(recorded / "outcomes.parquet")
    words = pa.array(["good"] * len(outcomes))
    place = outcomes.column_names.index("quality")
    pq.write_table(outcomes.set_column(place, "quality", words), recorded / "outcomes.parquet")
    with pytest.raises(RecordedDataError, match="quality"):
        ReplayedWorld(recorded, 10, 1)


def test_every_prompt_needs_one_outcome_per_model(recorded: Path) -> None:
    outcomes = pq.read_table(recorded / "outcomes.parquet")
    pq.write_table(outcomes.filter(pc.not_equal(pa.array(range(len(outcomes))), 7)), recorded / "outcomes.parquet")
    with pytest.raises(RecordedDataError, match="never-right"):
        ReplayedWorld(recorded, 1000, 1)
    pq.write_table(pa.concat_tables([outcomes, outcomes.slice(4, 1)]), recorded / "outcomes.parquet")
    with pytest.raises(RecordedDataError, match="never-right"):
        ReplayedWorld(recorded, 1000, 1)


def test_a_prompt_id_stands_for_one_prompt(recorded: Path) -> None:
    _rewrite(recorded / "prompts.parquet", "prompt_id", "p1")
    with pytest.raises(RecordedDataError, match="p1"):
        ReplayedWorld(recorded, 1000, 1)
