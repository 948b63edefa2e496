"""The words for why: every code that Conduit notes as a reason, each with one sentence for people.

A code is what stands in the log, in counters and in metrics; it keeps its meaning forever. Its sentence is what people
read, wherever they meet the code: in log lines, in answers to "why this model?", on the web page, in the commands and
in ``docs/contract/reasons.md``, which is made from here. A log may have been written by a newer version, so whoever
shows a code that comes from one asks :meth:`Code.sentence`, which has an answer for unknown codes, too.
"""

from enum import StrEnum
from typing import Self

from conduit_schemas.fields import MAX_ARMS

__all__ = ["VOCABULARY", "Code", "DeadLetterReason", "EventFate", "Fallback", "Flag", "OutcomeStatus", "RolloutStage"]


class Code(StrEnum):
    """A closed set of codes. A member is the string that stands in the log, and knows what it means.

    Examples
    --------
    >>> Flag("cost_cap") == "cost_cap", Flag.COST_CAP.about
    (True, "Deployments above the request's cost limit were left out.")
    """

    about: str
    """One sentence for somebody who has never met the project."""
    advice: str
    """What to do about it; empty where nothing has to be done."""

    def __new__(cls, code: str, about: str, advice: str = "") -> Self:
        """Make a member of its code and its words."""
        member = str.__new__(cls, code)
        member._value_, member.about, member.advice = code, about, advice
        return member

    @classmethod
    def known(cls, code: str) -> Self | None:
        """Return the member that a code from a log stands for; None where it is one of a newer version."""
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
    """Why LiteLLM's own selection served."""

    NO_SNAPSHOT = (
        "no_snapshot",
        "Nothing had been learned about this model group yet.",
        "Check that a learner is running. With Kafka that is `conduit learner`; on one machine "
        "`conduit-litellm[learner]` must be installed, and `host_learner` on.",
    )
    STALE_SNAPSHOT = (
        "stale_snapshot",
        "For longer than max_snapshot_age_s the log could not be read, or no learner worked on the delivered events.",
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
        "An error of Conduit's own got in the way; the application's log has its traceback.",
        "Please report it.",
    )
    OFF = "off", "Conduit is switched off for this model group (mode off)."
    SHADOW = "shadow", "Conduit only watches: it notes its choice, and LiteLLM serves (mode shadow)."
    CONTROL = (
        "control",
        "This request is in the share of the traffic that stays with LiteLLM for comparison (mode canary).",
    )
    WARM_START = "warm_start", "The decision was imported from older records, in which something else chose."

    @property
    def is_intended(self) -> bool:
        """Whether somebody asked for it; otherwise something stood in Conduit's way."""
        return self in {Fallback.OFF, Fallback.SHADOW, Fallback.CONTROL, Fallback.WARM_START}


class Flag(Code):
    """What safeguards and limits changed in a choice."""

    COLD_SHARE = (
        "cold_share",
        "Deployments with few ratings got a small, fixed share of the traffic, so that they become known.",
    )
    COLD_ONLY = (
        "cold_only",
        "No well-known deployment worked at the time, so those with few ratings shared the traffic.",
    )
    COST_CAP = "cost_cap", "Deployments above the request's cost limit were left out."
    COST_CAP_UNMET = (
        "cost_cap_unmet",
        "No deployment kept within the request's cost limit, so only the cheapest was left.",
    )
    LATENCY_TARGET = "latency_target", "Deployments slower than the request's latency target were left out."
    LATENCY_TARGET_UNMET = (
        "latency_target_unmet",
        "No deployment met the request's latency target, so only the fastest was left.",
    )
    TTFT_TARGET = "ttft_target", "Deployments slower to the first token than the request's target were left out."
    TTFT_TARGET_UNMET = (
        "ttft_target_unmet",
        "No deployment met the request's target for the first token, so only the fastest to it was left.",
    )
    QUALITY_FLOOR = "quality_floor", "The cheapest deployment with sufficient quality was preferred."
    QUALITY_FLOOR_UNKNOWN = (
        "quality_floor_unknown",
        "Too little was known of the quality to hold deployments to a floor, so the objective decided.",
    )
    BUDGET = "budget", "Spending was ahead of the budget, so the price counted for more."
    BUDGET_SPENT = "budget_spent", "The budget was spent, so only the cheapest deployment was left."
    SESSION_STICKY = "session_sticky", "The session stayed with the deployment that served it before."
    SWITCHING_COST = (
        "switching_cost",
        "The deployment that served the session before was given a lead, because switching has a cost.",
    )
    MIN_EXPLORATION = (
        "min_exploration",
        "Every deployment got at least the share of the traffic that was set aside for exploration.",
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

    TESTING = "testing", "A share of the traffic is Conduit's, and the evidence is not clear yet."
    PROMOTED = "promoted", "Conduit has shown that it is no worse, and chooses for nearly all of the traffic."
    ROLLED_BACK = "rolled_back", "Conduit was worse than LiteLLM alone, and only watches again."


class DeadLetterReason(Code):
    """Why a record could not be used."""

    INVALID = (
        "invalid",
        "It is not JSON, a field is missing or breaks its bounds, or its settings name something that does not exist.",
    )
    TOO_LARGE = "too_large", "It is larger than an event may be, and was not parsed."
    UNKNOWN_KIND = "unknown_kind", "It is a kind of event that this version does not know."
    NEWER_VERSION = "newer_version", "It was written by a newer major version of the contract."
    WRONG_PARTITION = "wrong_partition", "Its key is not its policy, so its order among the others is not assured."
    ORPHAN = "orphan", "No open decision belongs to it, a minute after it came."
    TOO_MANY = "too_many", "It would add more policies than one partition may hold."


class EventFate(Code):
    """What became of an event on its way to the log."""

    DELIVERED = "delivered", "The log has confirmed it."
    SPOOLED = "spooled", "It was kept on this machine's disk, from where it is delivered in order."
    ADOPTED = "adopted", "Another process left it on this machine's disk, and this one delivers it."
    DROPPED = (
        "dropped",
        "The log was away for so long that memory and disk had no room left, and the event is lost.",
        "Repair the brokers, and give the spool more room (`spool_limit_bytes`).",
    )
    REFUSED = "refused", "It broke the contract or was too large, and was left out."


VOCABULARY: tuple[type[Code], ...] = (Fallback, Flag, OutcomeStatus, RolloutStage, DeadLetterReason, EventFate)
"""Every set of the contract."""
