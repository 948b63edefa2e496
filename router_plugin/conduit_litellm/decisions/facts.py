"""How one attempt of a request went, in Conduit's own types."""

from typing import NamedTuple

from conduit_schemas import OutcomeStatus

__all__ = ["Facts", "failure_facts"]


class Facts(NamedTuple):
    """How one attempt went. The fields are those of :class:`conduit_schemas.Outcome`."""

    status: OutcomeStatus
    cost_usd: float | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_class: str | None = None
    error_code: str | None = None


def failure_facts(error: object, latency_s: float | None = None) -> Facts:
    """Return the facts of a failed attempt: the error's class, and the HTTP status if the client put one on it.

    Examples
    --------
    >>> failure_facts(TimeoutError(), latency_s=2.0).error_class
    'TimeoutError'
    """
    code = getattr(error, "status_code", None) or getattr(error, "code", None)
    return Facts(
        OutcomeStatus.ERROR,
        latency_s=latency_s,
        error_class=type(error).__name__ if isinstance(error, BaseException) else None,
        error_code=None if code is None else str(code)[:256],
    )
