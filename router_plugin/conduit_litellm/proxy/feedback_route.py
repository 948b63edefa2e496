"""``POST /conduit/feedback``: clients of a LiteLLM proxy say how good an answer was."""

from dataclasses import replace
from typing import Annotated, Literal, Self
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from conduit_litellm.decisions.judgements import Judgement, edited, rating, regenerated, thumbs
from conduit_litellm.litellm_compat.proxy_server import ProxyServer
from conduit_litellm.strategy import ConduitRoutingStrategy
from conduit_schemas.fields import Id, Label

__all__ = ["FEEDBACK_PATH", "Rating", "mount_feedback"]

FEEDBACK_PATH = "/conduit/feedback"


class Edit(BaseModel):
    """An answer and its edited version. They are compared, and neither is kept."""

    model_config = ConfigDict(extra="forbid")

    answer: str
    accepted: str


class Rating(BaseModel):
    """The request's body: which answer, and how good it was."""

    model_config = ConfigDict(extra="forbid")

    quality: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """0 (useless) to 1 (perfect)."""
    thumbs: Literal["up", "down"] | None = None
    stars: float | None = None
    """A rating from ``worst`` to ``best``."""
    best: float = 5.0
    worst: float = 1.0
    edit: Edit | None = None
    regenerated: Literal[True] | None = None
    """The user asked for another answer."""
    decision_id: Id | None = None
    """The response's header ``x-conduit-decision-id``."""
    call_id: Id | None = None
    """The response's header ``x-litellm-call-id``, as an alternative to the decision's id."""
    trace_id: Id | None = None
    """LiteLLM's id of the trace. The feedback is about the trace's newest decision."""
    policy: Id | None = None
    """The response's header ``x-conduit-policy``, unchanged. Needed if another worker made the decision."""
    source: Label = "client"
    key: Label = ""

    @model_validator(mode="after")
    def _check_exactly_one_rating_and_answer(self) -> Self:
        if sum(name is not None for name in (self.decision_id, self.call_id, self.trace_id)) != 1:
            raise ValueError("give exactly one of decision_id, call_id and trace_id")
        forms = (self.quality, self.thumbs, self.stars, self.edit, self.regenerated)
        if sum(form is not None for form in forms) != 1:
            raise ValueError("give exactly one of quality, thumbs, stars, edit and regenerated")
        self.judgement()
        return self

    def judgement(self) -> Judgement:
        """Return the rating in the form that the strategy takes."""
        if self.quality is not None:
            found = Judgement(self.quality)
        elif self.thumbs is not None:
            found = thumbs(self.thumbs == "up")
        elif self.stars is not None:
            found = rating(self.stars, best=self.best, worst=self.worst)
        elif self.edit is not None:
            found = edited(self.edit.answer, self.edit.accepted)
        else:
            found = regenerated()
        return replace(found, source=self.source, key=self.key or found.key)


def mount_feedback(server: ProxyServer, strategy: ConduitRoutingStrategy) -> None:
    """Add the route to the proxy's application, for every key that may call a model."""
    from fastapi import HTTPException  # noqa: PLC0415 - only a proxy has it

    async def give_feedback(given: Rating) -> dict[str, str]:
        """Rate an answer, so that later choices get better."""
        policy = None if given.policy is None else unquote(given.policy)
        decision = strategy.rate(
            given.judgement(),
            decision_id=given.decision_id,
            call_id=given.call_id,
            trace_id=given.trace_id,
            policy=policy,
        )
        if decision is None:
            raise HTTPException(404, detail=_UNKNOWN)
        return {"decision_id": decision}

    server.mount(FEEDBACK_PATH, give_feedback)


_UNKNOWN = (
    "this worker knows no such decision. If another worker made it, give decision_id and policy, copied from the "
    "response's headers x-conduit-decision-id and x-conduit-policy"
)
