"""How far a budget presses: from what was spent, and how much of its window is over, to a price of money."""

from typing import NamedTuple

from conduit_schemas import Budget, Spend

__all__ = ["Pace", "pace"]

DAY_MS = 86_400_000
THOUSAND = 1000

_SLACK = 0.1
"""Share of a budget that is not planned: what may be spent ahead of the plan while the price rises from 0 to 1."""


class Pace(NamedTuple):
    """What a budget asks of the next choice."""

    price: float
    """0..1: the utility that going from the pool's cheapest arm to its dearest has to bring at least."""
    is_spent: bool
    """Whether only the cheapest arm will do."""


def pace(budget: Budget, spend: Spend, now_ms: int) -> Pace:
    """Return how far a budget presses.

    Planned is nine tenths of it, spread evenly over its window: the day, or a thousand requests. Whoever is ahead of
    the plan pays: the price rises with the money spent too early, up to a tenth of the budget, and settles
    where the spending keeps pace with the plan (an integral controller, and the dual price of the budget in
    the sense of Agrawal & Devanur 2014). What is saved in quiet hours can be spent later the same day.

    Parameters
    ----------
    spend
        What was spent so far; a day that is over counts for nothing.
    now_ms
        Milliseconds since 1970.

    Examples
    --------
    >>> noon = DAY_MS // 2
    >>> pace(Budget(usd=100.0), Spend(day_start_ms=0, day_usd=45.0), noon).price  # as planned
    0.0
    >>> pace(Budget(usd=100.0), Spend(day_start_ms=0, day_usd=47.0), noon).price
    0.2
    """
    if budget.per == "day":
        start = now_ms // DAY_MS * DAY_MS
        spent = spend.day_usd if spend.day_start_ms == start else 0.0
        over = (now_ms - start) / DAY_MS
    else:
        is_new = spend.thousand_requests >= THOUSAND
        spent = 0.0 if is_new else spend.thousand_usd
        over = 0.0 if is_new else spend.thousand_requests / THOUSAND
    slack = _SLACK * budget.usd
    ahead = spent - (budget.usd - slack) * over
    price = min(1.0, max(0.0, ahead / slack))
    return Pace(price, price >= 1.0 or spent >= budget.usd)
