"""A policy's current routing settings, from its newest snapshot and the changes logged after it."""

from typing import NamedTuple

from conduit_learner.audit.history import BlockingLog
from conduit_policy import in_force
from conduit_schemas import (
    ConfigurationError,
    RecordError,
    RoutingChange,
    RoutingState,
    Snapshot,
    decode_event,
    decode_snapshot,
)

__all__ = ["RoutingNow", "known_policies", "routing_now"]


class RoutingNow(NamedTuple):
    """The routing settings in force, and the changes that are not in force yet."""

    published: RoutingState | None
    """The settings in the newest snapshot, which plugins use; None when it has none."""
    waiting: tuple[RoutingChange, ...]
    """Changes that no snapshot includes yet, oldest first."""

    @property
    def coming(self) -> RoutingChange | None:
        """The settings once all changes are published; None when the log does not know the application's own."""
        by_origin: dict[str, RoutingChange] = {}
        if (state := self.published) is not None:
            by_origin[state.origin] = RoutingChange.model_construct(
                routing=state.settings, origin=state.origin, changed_by=state.changed_by, time=state.changed_at
            )
        for change in self.waiting:
            if change.routing is None:
                by_origin.pop(change.origin, None)
            else:
                by_origin[change.origin] = change
        return in_force(by_origin)


def routing_now(log: BlockingLog, policy: str) -> RoutingNow:
    """Return a policy's routing settings.

    Raises
    ------
    ConfigurationError
        When the log holds no event of the policy.
    """
    history = log.history(policy)
    snapshot = _newest(log, policy)
    since = 0 if snapshot is None else snapshot.offset
    waiting = []
    for message in history.since(since):
        if message.key == policy.encode() and b"routing" in message.value:
            try:
                event = decode_event(message.value)
            except RecordError:
                continue  # the learner refuses it as well
            if isinstance(event, RoutingChange) and event.policy == policy:
                waiting.append(event)
    return RoutingNow(None if snapshot is None else snapshot.routing, tuple(waiting))


def known_policies(log: BlockingLog) -> list[str]:
    """Return the policies that have a snapshot."""
    topic = log.topics.snapshots
    try:
        return sorted({message.key.decode() for message in log.read(topic, log.end_offsets(topic))})
    except ConfigurationError:
        return []


def _newest(log: BlockingLog, policy: str) -> Snapshot | None:
    for message in log.snapshots(policy):
        try:
            return decode_snapshot(message.value)
        except RecordError:
            continue
    return None
