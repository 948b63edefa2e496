"""The checks of ``conduit doctor``: pure functions that turn what was read into findings with advice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conduit_learner.view.follow import Following
from conduit_learner.view.installation import InstallationView
from conduit_learner.view.policy import PolicyView
from conduit_learner.view.report import arm_names
from conduit_learner.view.timeline import Cell
from conduit_log import Capabilities, TopicDescription
from conduit_policy import SIGNALS
from conduit_schemas import DeadLetterReason, Fallback, Topics

__all__ = [
    "Finding",
    "check_clocks",
    "check_dead_letters",
    "check_policy",
    "check_spool",
    "check_topics",
    "check_traffic",
]

_MAX_CLOCK_DIFFERENCE_S = 5.0
_MAX_BEHIND = 1_000
_MAX_SILENCE_S = 120.0
_MIN_RATED_SHARE = 0.01
_MIN_CALLS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    state: Literal["ok", "look", "bad"]
    """``look``: it works but needs attention. ``bad``: it does not work."""
    found: str
    advice: str = ""
    """What to do; empty if nothing needs to be done."""


def check_topics(
    described: Sequence[TopicDescription], topics: Topics, capabilities: Capabilities
) -> Iterator[Finding]:
    """Look at the topics: whether they exist, with what guarantees.

    Examples
    --------
    >>> capabilities = Capabilities(needs_spool=True, hosts_learner=False, has_configurable_topics=True)
    >>> [finding.state for finding in check_topics([], Topics(), capabilities)]
    ['bad']
    """
    known = {topic.name: topic for topic in described if topic.exists}
    if missing := [name for name in topics.all if name not in known]:
        advice = "create them: conduit topics create"
        yield Finding("topics", "bad", f"{', '.join(missing)} do not exist, or access is denied", advice)
        return
    events = known[topics.events]
    yield Finding("topics", "ok", f"{len(topics.all)} topics, {events.partitions} partitions for events")
    if not capabilities.has_configurable_topics:
        return
    for name in topics.compacted:
        if "compact" not in known[name].settings.get("cleanup.policy", "compact"):
            yield Finding(
                "topics",
                "bad",
                f"{name} is not compacted: old snapshots or checkpoints will be lost, or never end",
                f"set cleanup.policy=compact on {name}",
            )
    if events.settings.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        yield Finding(
            "topics",
            "bad",
            f"{events.name} has times from the senders' clocks, so learning depends on them",
            f"set message.timestamp.type=LogAppendTime on {events.name}",
        )
    if events.replication < 2:
        yield Finding(
            "topics",
            "look",
            f"{events.name} has only one copy: its events are lost if that broker's disk fails",
            "with several brokers, create the topics with --replication-factor 3",
        )


def check_clocks(view: InstallationView, *, now_s: float) -> Iterator[Finding]:
    """Compare the clocks of this machine, the log and the senders, using the newest events."""
    if not view.delays_s:
        return
    newest_s = view.newest_ms / 1000.0
    if newest_s > now_s + _MAX_CLOCK_DIFFERENCE_S:
        found = f"the newest event has a time {newest_s - now_s:.0f} s in the future, by this machine's clock"
        yield Finding("clock", "look", found, "synchronise this machine's and the log's clocks with NTP")
    ahead_s = -min(view.delays_s)
    if ahead_s > _MAX_CLOCK_DIFFERENCE_S:
        found = f"a sender's clock is {ahead_s:.0f} s ahead of the log's clock"
        yield Finding("clock", "look", found, "synchronise the application servers' clocks with NTP")
    elif newest_s <= now_s + _MAX_CLOCK_DIFFERENCE_S:
        yield Finding("clock", "ok", "clocks agree within 5 s, according to the newest events")


def check_dead_letters(view: InstallationView) -> Finding:
    """Report the records that the learner could not use."""
    count = len(view.dead_letters)
    if not count:
        return Finding("dead letters", "ok", "none")
    reasons = sorted(set(view.dead_letters.values()))
    why = " ".join(f"{reason}: {DeadLetterReason.sentence(reason)}" for reason in reasons)
    return Finding("dead letters", "look", f"{count:,}. {why}", "look closer: conduit dead-letters list --limit 20")


def check_spool(spooled: int | None) -> Iterator[Finding]:
    """Report the events that wait for the log on this machine's disk."""
    if spooled is None:
        return
    if spooled > 1 << 20:
        found = f"{spooled >> 20:,} MiB of events wait on this machine's disk"
        yield Finding("spool", "look", found, "check the log: the events are delivered once it accepts them")
    else:
        yield Finding("spool", "ok", "less than 1 MiB of events waits on this machine's disk")


def check_traffic(view: InstallationView, following: Following) -> Finding:
    """Report whether there are any events."""
    if view.policies:
        names = ", ".join(sorted(view.policies)[:5])
        found = f"{following.read:,} events of {len(view.policies)} policies were read: {names}"
        return Finding("traffic", "ok", found)
    return Finding(
        "traffic",
        "look",
        "no events yet",
        "let a Router with ConduitRoutingStrategy serve a request; check that its log and topic prefix are these",
    )


def check_policy(policy: PolicyView, *, now_ms: int) -> Iterator[Finding]:
    """Check one policy: its learner, its decisions, feedback, and prices."""
    yield _learner(policy, now_ms)
    total: dict[str, Cell] = {}
    for _, cells in policy.timelines["all"]:
        for arm, cell in cells.items():
            total.setdefault(arm, Cell()).add(cell)
    yield from _decisions(policy)
    yield _feedback(policy, total)
    yield from _prices(policy, total)


def _learner(policy: PolicyView, now_ms: int) -> Finding:
    name = f"{policy.name}: learner"
    behind, is_more = policy.behind()
    run = "make sure that a learner runs (conduit learner, or an application's process where the log allows it)"
    if policy.published is None:
        return Finding(name, "bad", "no snapshot has been published, so LiteLLM's own selection serves", run)
    silent_s = (now_ms - policy.newest_ms) / 1000.0
    if behind > _MAX_BEHIND or (behind and silent_s > _MAX_SILENCE_S):
        found = f"{behind:,}{' or more' if is_more else ''} events are newer than the newest snapshot"
        return Finding(name, "bad" if silent_s > _MAX_SILENCE_S else "look", found, run)
    return Finding(name, "ok", f"up to date with {policy.published.snapshot.settings.algorithm}")


def _decisions(policy: PolicyView) -> Iterator[Finding]:
    name = f"{policy.name}: decisions"
    fallbacks = {why: count for why, count in policy.fallbacks.items() if not _is_intended(why)}
    count = sum(fallbacks.values())
    if policy.selections >= _MIN_CALLS and count > 0.2 * policy.selections:
        why = max(fallbacks, key=fallbacks.__getitem__)
        found = f"{count:,} of {policy.selections:,} were left to LiteLLM, mostly because of: {why}"
        known = Fallback.known(why)
        yield Finding(name, "look", f"{found}. {Fallback.sentence(why)}", "" if known is None else known.advice)
    elif policy.selections:
        yield Finding(name, "ok", f"{policy.selections:,}, of which {count:,} were left to LiteLLM")


def _is_intended(why: str) -> bool:
    known = Fallback.known(why)
    return known is not None and known.is_intended


def _feedback(policy: PolicyView, total: Mapping[str, Cell]) -> Finding:
    name = f"{policy.name}: feedback"
    rated = sum(cell.rated for cell in total.values())
    worked = sum(cell.successes for cell in total.values())
    how = "rate a few per cent of the answers, with strategy.record_feedback or a judge: see docs/usage.md"
    if worked < _MIN_CALLS:
        return Finding(name, "ok", "too few answers so far to tell")
    if not rated:
        found = "no answer is rated, so routing depends on failures alone and never on price"
        return Finding(name, "look", found, how)
    if rated < _MIN_RATED_SHARE * worked:
        return Finding(name, "look", f"only {rated:,} of {worked:,} answers are rated, so learning is slow", how)
    silent = [arm for arm, cell in total.items() if not cell.rated and cell.successes >= _MIN_CALLS]
    if silent:
        names = arm_names(policy.arms)
        found = f"no answer of {', '.join(names.get(arm, arm) for arm in silent)} is rated"
        return Finding(name, "look", found, "rate answers regardless of the model they come from")
    return Finding(name, "ok", f"{rated:,} of {worked:,} answers are rated")


def _prices(policy: PolicyView, total: Mapping[str, Cell]) -> Iterator[Finding]:
    name = f"{policy.name}: prices"
    served = {arm: cell for arm, cell in total.items() if cell.successes >= _MIN_CALLS}
    names = arm_names(policy.arms)
    named = {names.get(arm, arm): cell for arm, cell in served.items()}
    cost = SIGNALS["cost"].field
    unknown = [arm for arm, cell in named.items() if cell.known[cost] - cell.errors < 0.5 * cell.successes]
    free = [arm for arm, cell in named.items() if not cell.amounts[cost] and arm not in unknown]
    if unknown:
        advice = "give their deployments input_cost_per_token and output_cost_per_token in model_info"
        yield Finding(name, "look", f"LiteLLM reports no cost for {', '.join(unknown)}", advice)
    if free:
        advice = "if they are not free, give them input_cost_per_token and output_cost_per_token in model_info"
        yield Finding(name, "look", f"LiteLLM reports a cost of 0 for {', '.join(free)}", advice)
    if served and not unknown and not free:
        yield Finding(name, "ok", f"costs are reported for every deployment ({len(served)})")
