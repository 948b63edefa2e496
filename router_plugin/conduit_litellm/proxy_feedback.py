"""``POST /conduit/feedback``: clients of a LiteLLM proxy say how good an answer was."""

from typing import Annotated, Any, Self
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas.fields import Id, Label

__all__ = ["FEEDBACK_PATH", "Rating", "mount_feedback"]

FEEDBACK_PATH = "/conduit/feedback"


class Rating(BaseModel):
    """The body of a request: which answer, and how good it was."""

    model_config = ConfigDict(extra="forbid")

    quality: Annotated[float, Field(ge=0.0, le=1.0)]
    """0 (useless) to 1 (perfect)."""
    decision_id: Id | None = None
    """The response's header ``x-conduit-decision-id``."""
    call_id: Id | None = None
    """The response's header ``x-litellm-call-id``, in place of the decision's."""
    policy: Id | None = None
    """The response's header ``x-conduit-policy``, as it is: needed where another worker made the decision."""
    source: Label = "client"
    key: Label = ""

    @model_validator(mode="after")
    def _names_one_answer(self) -> Self:
        if (self.decision_id is None) == (self.call_id is None):
            raise ValueError("give either decision_id or call_id")
        return self


def mount_feedback(server: Any, strategy: ConduitRoutingStrategy) -> None:
    """Add the route to the proxy's application, for everybody whose key may call a model.

    Parameters
    ----------
    server
        The proxy's module.
    """
    from fastapi import Depends, HTTPException  # noqa: PLC0415 - only a proxy has it
    from litellm.proxy._types import LiteLLMRoutes  # noqa: PLC0415 - only a proxy needs it

    async def give_feedback(rating: Rating) -> dict[str, str]:
        """Say how good an answer was, so that the next ones get better."""
        policy = None if rating.policy is None else unquote(rating.policy)
        decision = strategy.rate(**rating.model_dump() | {"policy": policy})
        if decision is None:
            raise HTTPException(404, detail=_UNKNOWN)
        return {"decision_id": decision}

    checked = [Depends(server.user_api_key_auth)]
    server.app.add_api_route(FEEDBACK_PATH, give_feedback, methods=["POST"], tags=["conduit"], dependencies=checked)
    if FEEDBACK_PATH not in LiteLLMRoutes.openai_routes.value:  # what any key may call, not the master key alone
        LiteLLMRoutes.openai_routes.value.append(FEEDBACK_PATH)


_UNKNOWN = (
    "this worker knows no such decision. If another one made it, give decision_id and policy as the response's headers "
    "x-conduit-decision-id and x-conduit-policy had them"
)
