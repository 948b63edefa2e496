"""What was in force for one request when its deployment was chosen."""

from typing import NamedTuple

from conduit_policy import Constraints, Objective
from conduit_schemas import Fallback, Mode

__all__ = ["Directive"]


class Directive(NamedTuple):
    """What is in force for one request, and logged with its selection."""

    mode: Mode
    fallback: Fallback | None
    """Why LiteLLM is to choose; None where Conduit is."""
    objective: Objective
    weights: dict[str, float]
    constraints: Constraints
    logged: dict[str, float]
    """The constraints by name."""
    scope: str | None = None
    session: tuple[str, str] | None = None
    """Policy and session, where it matters which arm serves it."""
