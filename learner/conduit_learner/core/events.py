"""The events as the learner reads them: the contract's events, decoded several times faster.

:mod:`conduit_schemas` defines events with pydantic. The three kinds that make up nearly all of a log are defined here
once more, as msgspec structs with the same fields. Whatever a struct accepts, the contract accepts with the same
values. Everything else (other kinds, fields of newer versions, unusual spellings, invalid records) is left to the
contract, so that only the contract decides what is refused, and why.
"""

from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar, assert_never

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

import conduit_schemas as contract
from conduit_schemas import (
    MAX_ARMS,
    MAX_DIMENSION,
    MAX_EVENT_BYTES,
    SCHEMA_VERSION,
    LearningChange,
    OutcomeStatus,
    RatedSignal,
    RoutingChange,
)

__all__ = ["AboutDecision", "Event", "FeedbackEvent", "OutcomeEvent", "SelectionEvent", "decode_event"]

Id = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Probabilities = Annotated[tuple[Probability, ...], Meta(max_length=MAX_ARMS)]
Amount = Annotated[float, Meta(ge=0.0, le=1e6)]
Names = Annotated[dict[Label, float], Meta(max_length=32)]
PerArm = Annotated[tuple[float, ...], Meta(max_length=MAX_ARMS)]


if TYPE_CHECKING:
    Context = bytes
else:
    Context = str
    """JSON holds a context in base64, with the URL-safe alphabet. It becomes bytes after decoding."""


class _Event(Struct, kw_only=True, gc=False, tag_field="kind", forbid_unknown_fields=True):
    schema_version: str = SCHEMA_VERSION
    policy: Id
    time: Annotated[float, Meta(ge=0.0, le=1e11)]
    decision_id: Id

    def is_sound(self) -> bool:
        """Return whether the event passes the checks beyond field types. If not, the contract decides."""
        # A printable text contains no control characters.
        return (self.policy + self.decision_id).isprintable() and self.schema_version == SCHEMA_VERSION


class SelectionEvent(_Event, kw_only=True, gc=False, tag="selection"):
    """See :class:`conduit_schemas.Selection`."""

    kind: ClassVar[Literal["selection"]] = "selection"
    request_id: Id | None = None
    arms: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_ARMS)]
    models: Annotated[tuple[Label, ...], Meta(max_length=MAX_ARMS)] = ()
    chosen: Count
    probabilities: Probabilities | None = None
    fallback: Label | None = None
    snapshot_version: Count | None = None
    snapshot_hash: Label | None = None
    featurizer: Label
    context: Context
    predictions: Annotated[dict[Label, PerArm], Meta(max_length=16)] = {}
    objective: Names = {}
    constraints: Names = {}
    flags: Annotated[tuple[Label, ...], Meta(max_length=16)] = ()
    mode: Label | None = None
    scope: Label | None = None
    shadow_chosen: Count | None = None
    shadow_probabilities: Probabilities | None = None

    @property
    def arm(self) -> str:
        """The chosen deployment's id."""
        return self.arms[self.chosen]

    @property
    def propensity(self) -> float | None:
        """The probability with which the arm was chosen, or None when LiteLLM chose."""
        return None if self.probabilities is None else self.probabilities[self.chosen]

    def is_sound(self) -> bool:
        """Return whether the event passes the checks beyond field types. If not, the contract decides."""
        arms, models = _distinct(self.arms), self.models
        count = len(self.arms)
        if arms is None or self.chosen >= count or (models and len(models) != count):
            return False
        self.arms = arms
        for column in self.predictions.values():
            if len(column) != count:
                return False
        probabilities = self.probabilities
        if probabilities is not None and (
            len(probabilities) != count or abs(sum(probabilities) - 1.0) > 1e-6 or probabilities[self.chosen] <= 0.0
        ):
            return False
        if self.shadow_chosen is not None and self.shadow_chosen >= count:
            return False
        if self.shadow_probabilities is not None and len(self.shadow_probabilities) != count:
            return False
        ids = self.policy + self.decision_id + (self.request_id or "")
        return ids.isprintable() and self.schema_version == SCHEMA_VERSION


class OutcomeEvent(_Event, kw_only=True, gc=False, tag="outcome"):
    """See :class:`conduit_schemas.Outcome`."""

    kind: ClassVar[Literal["outcome"]] = "outcome"
    status: OutcomeStatus
    cost_usd: Amount | None = None
    latency_s: Amount | None = None
    ttft_s: Amount | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    error_class: Label | None = None
    error_code: Label | None = None
    source: Label = "litellm"


class FeedbackEvent(_Event, kw_only=True, gc=False, tag="feedback"):
    """See :class:`conduit_schemas.Feedback`."""

    kind: ClassVar[Literal["feedback"]] = "feedback"
    quality: Probability
    source: Label = "app"
    key: Label = ""
    signal: RatedSignal = "quality"
    sampling_probability: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None
    details: Annotated[dict[Label, str | int | float | bool | None], Meta(max_length=32)] = {}


AboutDecision = OutcomeEvent | FeedbackEvent
"""An event about a decision, after its selection."""

Event = SelectionEvent | AboutDecision | LearningChange | RoutingChange
"""Any event. Its class says which."""

Fast = TypeVar("Fast", SelectionEvent, OutcomeEvent, FeedbackEvent)


def decode_event(data: bytes) -> Event:
    """Decode an event.

    Raises
    ------
    RecordTooLargeError, NewerVersionError, UnknownKindError, InvalidRecordError
        When ``data`` is not a valid event; see :mod:`conduit_schemas.errors`.

    Examples
    --------
    >>> feedback = contract.Feedback(policy="default/chat", time=1.5, decision_id="d1", quality=0.9)
    >>> decode_event(contract.encode(feedback)).quality
    0.9
    """
    if len(data) <= MAX_EVENT_BYTES:
        try:
            event: SelectionEvent | AboutDecision = _decode(data)
            if isinstance(event, SelectionEvent):
                event.context = _from_text(event.context)  # type: ignore[arg-type]  # it is still a text
        except (MsgspecError, ValueError):
            pass
        else:
            if event.is_sound():
                return event
    return _as_struct(contract.decode_event(data))


def _as_struct(event: contract.Event) -> Event:
    match event:
        case contract.Selection():
            return _copied(event, SelectionEvent)
        case contract.Outcome():
            return _copied(event, OutcomeEvent)
        case contract.Feedback():
            return _copied(event, FeedbackEvent)
        case LearningChange() | RoutingChange():
            return event
        case _:
            assert_never(event)


def _copied(event: contract.Event, kind: type[Fast]) -> Fast:
    return kind(**{name: getattr(event, name) for name in kind.__struct_fields__})


_TO_STANDARD = bytes.maketrans(b"-_+/", b"+/??")
"""Converts to the standard alphabet, which is decoded fastest. Its own special characters become invalid ones."""


def _from_text(text: str) -> bytes:
    """Decode a context. Only the exact text that the contract writes for it is accepted."""
    standard = text.encode().translate(_TO_STANDARD)
    data = a2b_base64(standard)
    if b2a_base64(data, newline=False) != standard:
        raise ValueError("another spelling")
    if len(data) % 2 or len(data) > 2 * MAX_DIMENSION:
        raise ValueError("not a context")
    return data


@lru_cache(maxsize=128)
def _distinct(arms: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the arms, as the same object for equal ones. None if the contract has to check them."""
    return arms if len(set(arms)) == len(arms) and "".join(arms).isprintable() else None


_decode = Decoder(SelectionEvent | AboutDecision).decode
