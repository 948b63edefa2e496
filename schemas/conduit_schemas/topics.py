"""Topic names and keys: which records are on which topic."""

import re
from dataclasses import dataclass

from conduit_schemas.errors import ConfigurationError

__all__ = ["Topics", "policy_name"]

_PREFIX = re.compile(r"^[A-Za-z0-9._-]{1,200}$")


@dataclass(frozen=True, slots=True)
class Topics:
    """The four topics of one installation.

    ``events`` is keyed by policy. Keep it for as long as audits should reach back. ``snapshots`` (keyed by policy),
    ``checkpoints`` (keyed by partition, lane, slot, chunk and policy) and ``dead_letters`` (keyed by the refused
    record's position) are compacted: only the newest record of each key is kept.

    Examples
    --------
    >>> Topics("team-a").events
    'team-a.events'
    """

    prefix: str = "conduit"

    def __post_init__(self) -> None:
        if not _PREFIX.match(self.prefix):
            raise ConfigurationError(f"topic prefix {self.prefix!r} must be 1 to 200 letters, digits, '.', '_' or '-'")

    @property
    def events(self) -> str:
        """All events: selections, outcomes, feedback, settings and routing, in one total order per policy."""
        return f"{self.prefix}.events"

    @property
    def snapshots(self) -> str:
        """The snapshots that the plugins read."""
        return f"{self.prefix}.snapshots"

    @property
    def checkpoints(self) -> str:
        """The checkpoints that a learner resumes from."""
        return f"{self.prefix}.checkpoints"

    @property
    def dead_letters(self) -> str:
        """Records that could not be used, each with its reason and position."""
        return f"{self.prefix}.dead-letters"

    @property
    def compacted(self) -> frozenset[str]:
        """The topics that keep only the newest record per key."""
        return frozenset({self.snapshots, self.checkpoints, self.dead_letters})

    @property
    def all(self) -> tuple[str, ...]:
        """Every topic."""
        return (self.events, self.snapshots, self.checkpoints, self.dead_letters)


def policy_name(namespace: str, model_group: str) -> str:
    """Return the name of the policy for a LiteLLM model group in a namespace.

    Examples
    --------
    >>> policy_name("default", "chat")
    'default/chat'
    """
    return f"{namespace}/{model_group}"
