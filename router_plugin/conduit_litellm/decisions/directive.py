"""The mode, goal and limits that applied to one request when its deployment was chosen."""

from typing import NamedTuple

from conduit_policy import Constraints, Objective
from conduit_schemas import Fallback, Mode

__all__ = ["Directive"]


class Directive(NamedTuple):
    """The mode, goal and limits that apply to one request. They are logged with its selection."""

    mode: Mode
    fallback: Fallback | None
    """Why LiteLLM chooses; None if Conduit chooses."""
    objective: Objective
    weights: dict[str, float]
    constraints: Constraints
    logged: dict[str, float]
    """The constraints by name, as the event carries them."""
    scope: str | None = None
    """The key or team whose override applies, if any."""
    session: tuple[str, str] | None = None
    """Policy and session, if the settings depend on which deployment served the session last."""
