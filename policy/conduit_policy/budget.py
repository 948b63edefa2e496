"""Budgets: when their windows begin, what was spent in them, and how that affects the next choice."""

from typing import NamedTuple, assert_never

from conduit_schemas import Budget, Spend

__all__ = ["DAY_MS", "Pace", "day_start_ms", "pace", "spent"]

DAY_MS = 86_400_000
_THOUSAND = 1000

_SLACK = 0.1
"""Share of a budget that is kept out of the plan. Spending may run ahead of the plan by this much, while the price of
cost rises from 0 to 1."""


def day_start_ms(now_ms: int) -> int:
    """Return when the day began, at midnight UTC, in milliseconds since 1970."""
    return now_ms // DAY_MS * DAY_MS


def spent(spend: Spend, now_ms: int, usd: float = 0.0, requests: int = 0) -> Spend:
    """Return what was spent in the current windows, including new spending.

    A new window starts at 0: the day at midnight UTC, and the thousand requests when the last thousand is complete.

    Parameters
    ----------
    now_ms
        Milliseconds since 1970.
    usd, requests
        New spending and the number of requests that caused it.

    Examples
    --------
    >>> spent(Spend(day_usd=2.0, thousand_requests=999, thousand_usd=9.0), DAY_MS, usd=0.5, requests=1)
    Spend(day_start_ms=86400000, day_usd=0.5, thousand_requests=1000, thousand_usd=9.5)
    """
    day = day_start_ms(now_ms)
    same_day, same_thousand = spend.day_start_ms == day, spend.thousand_requests < _THOUSAND
    return Spend.model_construct(
        day_start_ms=day,
        day_usd=(spend.day_usd if same_day else 0.0) + usd,
        thousand_requests=(spend.thousand_requests if same_thousand else 0) + requests,
        thousand_usd=(spend.thousand_usd if same_thousand else 0.0) + usd,
    )


class Pace(NamedTuple):
    """How a budget affects the next choice."""

    price: float
    """0..1: the weight of cost in addition to the objective's. Choosing the pool's most expensive arm over its cheapest
    must gain at least this utility."""
    is_spent: bool
    """Whether only the cheapest arm is allowed."""


def pace(budget: Budget, spend: Spend, now_ms: int) -> Pace:
    """Return how a budget affects the next choice.

    The plan spends nine tenths of the budget evenly over its window: the day, or a thousand requests. When spending
    runs ahead of the plan, the price rises in proportion, and reaches 1 at a tenth of the budget. It settles where
    spending follows the plan (an integral controller, and the dual price of the budget in the sense of Agrawal &
    Devanur 2014). What is saved in quiet hours can be spent later the same day.

    Parameters
    ----------
    spend
        What was spent so far. Past windows do not count.
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
    now = spent(spend, now_ms)
    match budget.per:
        case "day":
            usd, over = now.day_usd, (now_ms - now.day_start_ms) / DAY_MS
        case "1000_requests":
            usd, over = now.thousand_usd, now.thousand_requests / _THOUSAND
        case _:
            assert_never(budget.per)
    slack = _SLACK * budget.usd
    ahead = usd - (budget.usd - slack) * over
    price = min(1.0, max(0.0, ahead / slack))
    return Pace(price, price >= 1.0 or usd >= budget.usd)
