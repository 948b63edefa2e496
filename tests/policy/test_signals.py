"""The table of signals, and what other rooms may rely on."""

from typing import get_args

from conduit_policy import AMOUNTS, SIGNALS
from conduit_schemas import RatedSignal


def test_a_rating_can_teach_the_scores_and_nothing_else() -> None:
    assert list(get_args(RatedSignal)) == [signal.name for signal in SIGNALS.values() if not signal.is_amount]


def test_an_amount_is_either_money_or_time() -> None:
    assert all(signal.is_money != signal.is_time for signal in AMOUNTS)
    assert not any(signal.is_money or signal.is_time for signal in SIGNALS.values() if not signal.is_amount)
