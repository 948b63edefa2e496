from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.dataset import Dataset, load
from benchmarks.quality.stream import Delays, Observed, Stream, play


@pytest.fixture(scope="module")
def data(easy: Path) -> Dataset:
    return load(easy)


class Watcher:
    """Chooses arm (position modulo 3), and records what it was told, and when."""

    def __init__(self) -> None:
        self.decided = 0
        self.blocks: list[int] = []
        self.outcomes: dict[int, int] = {}
        self.feedback: dict[int, int] = {}
        self.told: list[Observed] = []

    def choose(self, positions: range) -> np.ndarray:
        assert positions.start == self.decided
        self.decided = positions.stop
        self.blocks.append(len(positions))
        return np.array(positions) % 3

    def learn(self, outcomes: Observed, feedback: Observed) -> None:
        for seen, known in ((outcomes, self.outcomes), (feedback, self.feedback)):
            for position in seen.positions.tolist():
                assert position not in known
                known[position] = self.decided
        self.told.append(feedback)


def test_everything_is_known_once_and_as_late_as_it_should_be(data: Dataset) -> None:
    stream = Stream(
        data, seed=1, tradeoff=0.1, delays=Delays(snapshot_every=30, outcome=20, feedback=200), max_prompts=500
    )
    watcher = Watcher()
    arms = play(watcher, stream)
    assert arms.tolist() == [position % 3 for position in range(500)]
    assert watcher.blocks == [30] * 16 + [20]
    for known, delay in ((watcher.outcomes, 20), (watcher.feedback, 200)):
        # Known after more than `delay` further decisions, at the next multiple of 30.
        assert known == {p: -(-(p + delay + 1) // 30) * 30 for p in range(480 - delay)}


def test_what_is_told_is_the_chosen_arms_record_and_nothing_else(data: Dataset) -> None:
    stream = Stream(data, seed=3, tradeoff=0.1)
    watcher = Watcher()
    play(watcher, stream)
    told = next(observed for observed in watcher.told if len(observed.positions) > 3)
    for number, position in enumerate(told.positions.tolist()):
        row, arm = stream.rows[position], position % 3
        assert told.arms[number] == arm
        assert told.quality[number] == data.outcomes.quality[row, arm]
        assert told.cost_usd[number] == data.outcomes.cost_usd[row, arm]
        assert told.utility[number] == pytest.approx(told.quality[number] - 0.1 * data.scaled_cost[row, arm])


def test_feedback_comes_for_a_share_the_same_for_every_policy(data: Dataset) -> None:
    def judged() -> set[int]:
        watcher = Watcher()
        play(watcher, Stream(data, seed=5, tradeoff=0.0, delays=Delays(feedback_share=0.3)))
        return set(watcher.feedback)

    some = judged()
    assert some == judged()
    assert 0.2 < len(some) / 650 < 0.4
    watcher = Watcher()
    play(watcher, Stream(data, seed=5, tradeoff=0.0, delays=Delays(feedback_share=0.0)))
    assert not watcher.feedback
    assert watcher.outcomes


def test_seed_alone_decides_the_order(data: Dataset) -> None:
    one, other = Stream(data, seed=1, tradeoff=0.0), Stream(data, seed=1, tradeoff=0.2)
    assert one.rows.tolist() == other.rows.tolist()
    assert sorted(one.rows.tolist()) == list(range(900))
    assert one.rows.tolist() != Stream(data, seed=2, tradeoff=0.0).rows.tolist()
    short = Stream(data, seed=1, tradeoff=0.0, max_prompts=100)
    assert short.rows.tolist() == one.rows.tolist()[:100]
    assert short.requests().texts[0] == data.outcomes.texts[one.rows[0]]
    assert (short.last_third.start, short.last_third.stop) == (67, 100)
