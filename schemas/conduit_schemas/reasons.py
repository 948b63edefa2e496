"""The reason codes: every code that Conduit records as a reason, each with one sentence for people.

The log, the counters, the metrics and the commands' JSON hold the code, whose meaning never changes. People read its
sentence: in log lines, in answers to "why this model?", on the web page, in the commands and in
``docs/contract/reasons.md``, which is generated from here. A newer version may have written the log, so use
:meth:`Code.sentence` to show a code from a log: it has an answer for unknown codes, too.
"""

from enum import StrEnum
from typing import Self

from conduit_schemas.fields import MAX_ARMS

__all__ = [
    "VOCABULARY",
    "Code",
    "DeadLetterReason",
    "EventFate",
    "Fallback",
    "Flag",
    "NotEvaluated",
    "NotProvable",
    "NotRetried",
    "NothingToProve",
    "OutcomeStatus",
    "RolloutStage",
]


class Code(StrEnum):
    """A closed set of codes. A member is the string in the log, and carries its meaning.

    Examples
    --------
    >>> Flag("cost_cap") == "cost_cap", Flag.COST_CAP.about
    (True, "Deployments above the request's cost limit were left out.")
    """

    about: str
    """One sentence that says what the code means, for a reader who is new to the project."""
    advice: str
    """What to do about it. Empty when nothing has to be done."""

    def __new__(cls, code: str, about: str, advice: str = "") -> Self:
        """Create a member from its code and its texts."""
        member = str.__new__(cls, code)
        member._value_, member.about, member.advice = code, about, advice
        return member

    @classmethod
    def known(cls, code: str) -> Self | None:
        """Return the member for a code from a log, or None for a code of a newer version."""
        return next((member for member in cls if member == code), None)

    @classmethod
    def sentence(cls, code: str) -> str:
        """Return what a code from a log means.

        Examples
        --------
        >>> Fallback.sentence("no_snapshot")
        'Nothing had been learned about this model group yet.'
        >>> Fallback.sentence("full_moon")
        "The log says 'full_moon', which this version does not know."
        """
        member = cls.known(code)
        return f"The log says {code!r}, which this version does not know." if member is None else member.about


class Fallback(Code):
    """Why LiteLLM's own selection chose the deployment."""

    NO_SNAPSHOT = (
        "no_snapshot",
        "Nothing had been learned about this model group yet.",
        "Check that a learner is running. With Kafka, start `conduit learner`. On one machine, install "
        "`conduit-litellm[learner]` and leave `host_learner` on.",
    )
    STALE_SNAPSHOT = (
        "stale_snapshot",
        "For longer than max_snapshot_age_s, the log could not be read or no learner processed the delivered events.",
        "Check that the brokers are reachable, that a learner is running, and that it keeps up.",
    )
    UNKNOWN_FEATURIZER = (
        "unknown_featurizer",
        "The policy was learned with another featurizer than this process uses.",
        "Use the same featurizer in all processes, or different namespaces.",
    )
    TOO_MANY_DEPLOYMENTS = (
        "too_many_deployments",
        f"The model group has more deployments than one decision may have ({MAX_ARMS}).",
        "Split the group.",
    )
    ERROR = (
        "error",
        "Conduit failed with an error; the traceback is in the application's log.",
        "Please report it.",
    )
    OFF = "off", "Conduit is switched off for this model group (mode off)."
    SHADOW = "shadow", "Conduit only logs what it would have chosen; LiteLLM chooses (mode shadow)."
    CONTROL = (
        "control",
        "This request is in the share of the traffic that stays with LiteLLM for comparison (mode canary).",
    )
    WARM_START = "warm_start", "The decision was imported from older records, so Conduit did not make it."

    @property
    def is_intended(self) -> bool:
        """Whether this follows from settings or an import. If not, a problem kept Conduit from choosing."""
        return self in {Fallback.OFF, Fallback.SHADOW, Fallback.CONTROL, Fallback.WARM_START}


class Flag(Code):
    """How safeguards and limits changed a choice."""

    COLD_SHARE = (
        "cold_share",
        "Deployments with few ratings got a small, fixed share of the traffic, so that more is learned about them.",
    )
    COLD_ONLY = (
        "cold_only",
        "No deployment with enough ratings was working, so those with few ratings shared the traffic.",
    )
    COST_CAP = "cost_cap", "Deployments above the request's cost limit were left out."
    COST_CAP_UNMET = (
        "cost_cap_unmet",
        "No deployment met the request's cost limit, so only the cheapest was left.",
    )
    LATENCY_TARGET = "latency_target", "Deployments slower than the request's latency target were left out."
    LATENCY_TARGET_UNMET = (
        "latency_target_unmet",
        "No deployment met the request's latency target, so only the fastest was left.",
    )
    TTFT_TARGET = (
        "ttft_target",
        "Deployments that take longer to the first token than the request's target were left out.",
    )
    TTFT_TARGET_UNMET = (
        "ttft_target_unmet",
        "No deployment met the request's target for the first token, so only the fastest in this respect was left.",
    )
    QUALITY_FLOOR = "quality_floor", "The cheapest deployment with sufficient quality was preferred."
    QUALITY_FLOOR_UNKNOWN = (
        "quality_floor_unknown",
        "Too little was known about quality to apply the quality floor, so the objective decided.",
    )
    BUDGET = "budget", "Spending was ahead of the budget, so the price counted for more."
    BUDGET_SPENT = "budget_spent", "The budget was spent, so only the cheapest deployment was left."
    SESSION_STICKY = "session_sticky", "The session stayed with the deployment that served it before."
    SWITCHING_COST = (
        "switching_cost",
        "The deployment that served the session before got a bonus, because switching has a cost.",
    )
    MIN_EXPLORATION = (
        "min_exploration",
        "Every deployment got its part of the traffic that is reserved for exploration.",
    )
    WARM_START = "warm_start", "The decision was imported from older records."


class OutcomeStatus(Code):
    """How a call ended."""

    SUCCESS = "success", "It worked."
    ERROR = "error", "It failed."
    CANCELLED = "cancelled", "It was cancelled, which says nothing about the deployment."
    CLIENT_DISCONNECT = "client_disconnect", "The client went away before the answer was complete."
    CACHE_HIT = "cache_hit", "It was answered from the cache and never reached the deployment."


class RolloutStage(Code):
    """How far an automatic roll-out is."""

    TESTING = "testing", "Conduit chooses for a share of the traffic, and the evidence is not conclusive yet."
    PROMOTED = (
        "promoted",
        "Conduit was shown to be no worse than LiteLLM, and chooses for all or nearly all of the traffic.",
    )
    ROLLED_BACK = "rolled_back", "Conduit was worse than LiteLLM alone, so it only logs its choices again."


class DeadLetterReason(Code):
    """Why a record could not be used."""

    INVALID = (
        "invalid",
        "It is not JSON, a field is missing or out of bounds, or its settings name something that does not exist.",
    )
    TOO_LARGE = "too_large", "It is larger than the contract allows, and was not parsed."
    UNKNOWN_KIND = "unknown_kind", "It is a kind of event that this version does not know."
    NEWER_VERSION = "newer_version", "It was written by a newer major version of the contract."
    WRONG_PARTITION = (
        "wrong_partition",
        "Its key does not match its policy, so its order among the policy's events is not guaranteed.",
    )
    ORPHAN = "orphan", "No open decision for it was found within a minute."
    TOO_MANY = "too_many", "It would add more policies than one partition may hold."


class EventFate(Code):
    """What happened to an event on its way to the log."""

    DELIVERED = "delivered", "The log has confirmed it."
    SPOOLED = "spooled", "It was saved on this machine's disk, and is delivered from there in order."
    ADOPTED = "adopted", "Another process left it on this machine's disk, and this process delivers it."
    DROPPED = (
        "dropped",
        "The log was unavailable for so long that memory and disk ran full, and the event is lost.",
        "Repair the brokers, and give the spool more room (`spool_limit_bytes`).",
    )
    REFUSED = "refused", "It violated the contract or was too large, and was left out."


class NotRetried(Code):
    """Why a dead letter is not retried."""

    ALREADY_RETRIED = "already_retried", "It was retried before."
    CUT = "cut", "Its record was too long to be stored in full."
    STILL_UNUSABLE = (
        "still_unusable",
        "Its record would be refused again.",
        "`conduit dead-letters list` says what is wrong with it.",
    )
    SETTINGS = "settings", "Its settings would override newer ones."


class NothingToProve(Code):
    """Why there is nothing to prove about a decision, if it was not a fallback."""

    ONE_DEPLOYMENT = "one_deployment", "Only one deployment was available, so there was nothing to choose."
    NOT_CONDUIT = "not_conduit", "The selection names no snapshot: something other than Conduit chose."


class NotProvable(Code):
    """Why a decision or a published snapshot cannot be proven."""

    EVENTS_DELETED = "events_deleted", "The events that it depends on were deleted."
    NO_CHECKPOINT = (
        "no_checkpoint",
        "The oldest events were deleted, and no checkpoint within the events read covers them.",
        "Use an archive that was started earlier, or read up to a later position.",
    )


class NotEvaluated(Code):
    """Why an evaluation leaves a decision out."""

    BY_LITELLM = "by_litellm", "LiteLLM chose, with probabilities that are not known."
    OTHER_FEATURES = "other_features", "Its features are not those that the candidate learns from."
    EARLIER_FEATURES = "earlier_features", "Its features are those of an earlier featurizer."
    INVALID_OBJECTIVE = "invalid_objective", "Its objective is invalid."


VOCABULARY: tuple[type[Code], ...] = (
    Fallback,
    Flag,
    OutcomeStatus,
    RolloutStage,
    DeadLetterReason,
    EventFate,
    NotRetried,
    NothingToProve,
    NotProvable,
    NotEvaluated,
)
"""All sets of codes."""
