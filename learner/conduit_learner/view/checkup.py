"""What is well and what is not in an installation, and what to do about it: pure judgement of what was found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conduit_learner.view.follow import Following
from conduit_learner.view.installation import InstallationView
from conduit_learner.view.policy import PolicyView
from conduit_learner.view.report import arm_names
from conduit_learner.view.timeline import Cell
from conduit_log import Capabilities, TopicDescription
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

_CLOCK_S = 5.0
_BEHIND = 1_000
_SILENT_S = 120.0
_FEW_RATINGS = 0.01
_ENOUGH = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: Literal["ok", "look", "bad"]
    """``look``: it works, and somebody should know. ``bad``: it does not work."""
    found: str
    advice: str = ""
    """What to do; empty where nothing has to be done."""


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
        yield Finding("topics", "bad", f"{', '.join(missing)} do not exist, or may not be seen", advice)
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
            f"{events.name} is stamped by the senders' clocks, so what is learned depends on them",
            f"set message.timestamp.type=LogAppendTime on {events.name}",
        )
    if events.replication < 2:
        yield Finding(
            "topics",
            "look",
            f"one copy of {events.name}: its events are lost with that broker's disk",
            "with several brokers, create topics with --replication-factor 3",
        )


def check_clocks(view: InstallationView, *, now_s: float) -> Iterator[Finding]:
    """Compare this machine's clock, the log's and the senders', as far as the newest events tell."""
    if not view.delays_s:
        return
    newest_s = view.newest_ms / 1000.0
    if newest_s > now_s + _CLOCK_S:
        found = f"the newest event will be appended in {newest_s - now_s:.0f} s, by this machine's clock"
        yield Finding("clock", "look", found, "let NTP set the clocks of this machine and of the log's")
    ahead_s = -min(view.delays_s)
    if ahead_s > _CLOCK_S:
        found = f"a sender's clock is {ahead_s:.0f} s ahead of the log's"
        yield Finding("clock", "look", found, "let NTP set the clocks of the application servers")
    elif newest_s <= now_s + _CLOCK_S:
        yield Finding("clock", "ok", "clocks agree within 5 s, as far as the newest events tell")


def check_dead_letters(view: InstallationView) -> Finding:
    """Look at what could not be learned from."""
    count = len(view.dead_letters)
    if not count:
        return Finding("dead letters", "ok", "none")
    reasons = sorted(set(view.dead_letters.values()))
    why = " ".join(f"{reason}: {DeadLetterReason.sentence(reason)}" for reason in reasons)
    return Finding("dead letters", "look", f"{count:,}. {why}", "look closer: conduit dead-letters list --limit 20")


def check_spool(spooled: int | None) -> Iterator[Finding]:
    """Look at what waits on this machine's disk."""
    if spooled is None:
        return
    if spooled > 1 << 20:
        found = f"{spooled >> 20:,} MiB wait on this machine's disk"
        yield Finding("spool", "look", found, "they are delivered when the log takes them: look at it")
    else:
        yield Finding("spool", "ok", "next to nothing waits on this machine's disk")


def check_traffic(view: InstallationView, following: Following) -> Finding:
    """Look at whether there is any."""
    if view.policies:
        names = ", ".join(sorted(view.policies)[:5])
        return Finding("traffic", "ok", f"{following.read:,} events read, of {len(view.policies)} policies: {names}")
    return Finding(
        "traffic",
        "look",
        "no events yet",
        "let a Router with ConduitRoutingStrategy serve a request; check that its log and topic prefix are these",
    )


def check_policy(policy: PolicyView, *, now_ms: int) -> Iterator[Finding]:
    """Look at one policy: its learner, who decides, feedback, and prices."""
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
    run = "see that a learner runs (conduit learner; where the log allows it, an application's process hosts it)"
    if policy.published is None:
        return Finding(name, "bad", "no snapshot has been published, so LiteLLM's own selection serves", run)
    silent_s = (now_ms - policy.newest_ms) / 1000.0
    if behind > _BEHIND or (behind and silent_s > _SILENT_S):
        found = f"{behind:,}{' or more' if is_more else ''} events are newer than the newest snapshot"
        return Finding(name, "bad" if silent_s > _SILENT_S else "look", found, run)
    return Finding(name, "ok", f"up to date with {policy.published.snapshot.settings.algorithm}")


def _decisions(policy: PolicyView) -> Iterator[Finding]:
    name = f"{policy.name}: decisions"
    fallbacks = {why: count for why, count in policy.fallbacks.items() if not _is_intended(why)}
    count = sum(fallbacks.values())
    if policy.selections >= _ENOUGH and count > 0.2 * policy.selections:
        why = max(fallbacks, key=fallbacks.__getitem__)
        found = f"{count:,} of {policy.selections:,} were left to LiteLLM, mostly: {why}"
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
    how = "send some, for a few per cent of the answers: strategy.record_feedback, or a judge; docs/usage.md shows how"
    if worked < _ENOUGH:
        return Finding(name, "ok", "too few answers yet to judge by")
    if not rated:
        return Finding(name, "look", "no answer is rated: routing goes by failures alone and never by price", how)
    if rated < _FEW_RATINGS * worked:
        return Finding(name, "look", f"{rated:,} of {worked:,} answers are rated: learning is slow", how)
    silent = [arm for arm, cell in total.items() if not cell.rated and cell.successes >= _ENOUGH]
    if silent:
        names = arm_names(policy.arms)
        found = f"no answer of {', '.join(names.get(arm, arm) for arm in silent)} is rated"
        return Finding(name, "look", found, "rate answers whatever model they come from")
    return Finding(name, "ok", f"{rated:,} of {worked:,} answers are rated")


def _prices(policy: PolicyView, total: Mapping[str, Cell]) -> Iterator[Finding]:
    name = f"{policy.name}: prices"
    served = {arm: cell for arm, cell in total.items() if cell.successes >= _ENOUGH}
    names = arm_names(policy.arms)
    named = {names.get(arm, arm): cell for arm, cell in served.items()}
    unknown = [arm for arm, cell in named.items() if cell.known["cost_usd"] - cell.errors < 0.5 * cell.successes]
    free = [arm for arm, cell in named.items() if not cell.amounts["cost_usd"] and arm not in unknown]
    free = [
        names.get(arm, arm)
        for arm, cell in served.items()
        if not cell.amounts["cost_usd"] and names.get(arm, arm) not in unknown
    ]
    if unknown:
        advice = "give their deployments input_cost_per_token and output_cost_per_token in model_info"
        yield Finding(name, "look", f"LiteLLM reports no cost for {', '.join(unknown)}", advice)
    if free:
        advice = "if they are not free, give them input_cost_per_token and output_cost_per_token in model_info"
        yield Finding(name, "look", f"reported to cost nothing: {', '.join(free)}", advice)
    if served and not unknown and not free:
        yield Finding(name, "ok", f"every one of {len(served)} arms reports its cost")
