"""Logs as plugins and learners write them together, in which decisions name the snapshots they were made with."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from conduit_learner.core.checkpoint import CheckpointWriter
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import Message, StoredMessage
from conduit_log.embedded import EmbeddedLog
from conduit_policy import SIGNALS, UNCONSTRAINED, Beliefs, Constraints, Objective, choose, predictions
from conduit_schemas import (
    Event,
    Feedback,
    LearningChange,
    LearningSettings,
    Outcome,
    Selection,
    Topics,
    decode_event,
    encode,
)

POLICY = "default/chat"
ARMS = ("dear", "cheap", "slow")
SETTINGS = LearningSettings(featurizer="eight", dimension=8, params={"cold_ratings": 5.0})


class Installation:
    """One partition of a log, the learner that reads it, and the snapshot that the plugin chooses with."""

    def __init__(
        self,
        settings: LearningSettings = SETTINGS,
        *,
        policies: Sequence[str] = (POLICY,),
        limits: Callable[[str], Constraints] | None = None,
    ) -> None:
        self.log: list[StoredMessage] = []
        self.learner = PartitionLearner(0)
        self.beliefs: dict[str, Beliefs] = {}
        self.published: list[Message] = []
        self.checkpoints: dict[bytes, bytes] = {}
        self.policies = policies
        self.limits = limits
        self._writer = CheckpointWriter()
        self._numbers = iter(range(1_000_000))
        for policy in policies:
            self.put(LearningChange(policy=policy, time=1.0, settings=settings))

    def put(self, event: Event) -> None:
        number = len(self.log)
        message = StoredMessage(0, number, 1_000_000 + 10 * number, event.policy.encode(), encode(event))
        self.log.append(message)
        self.learner.apply(message)

    def publish(self) -> None:
        for policy in self.policies:
            snapshot = self.learner.snapshot(policy)
            self.beliefs[policy] = Beliefs(snapshot)
            self.published.append(Message(policy.encode(), encode(snapshot)))

    def checkpoint(self) -> None:
        for records in self._writer.records(self.learner):
            self.checkpoints.update(records)

    def run(self, decisions: int, *, seed: int = 0, publish_every: int = 20) -> "Installation":
        """Serve requests; decision ids are ``d0``, ``d1``, ... in order."""
        rng = np.random.default_rng(seed)
        for count in range(decisions):
            number = next(self._numbers)
            policy = self.policies[number % len(self.policies)]
            context = np.rint(np.array([1.0, *rng.uniform(-1.0, 1.0, 7)]) * 1024).astype(np.int16)
            selection = self.select(f"d{number}", policy, context)
            self.put(selection)
            quality = float(np.clip(rng.normal((0.9, 0.5, 0.7)[selection.chosen], 0.1), 0.0, 1.0))
            status = "error" if rng.random() < 0.05 else "success"
            self.put(
                Outcome(
                    policy=policy,
                    time=1.0,
                    decision_id=selection.decision_id,
                    status=status,
                    cost_usd=(0.02, 0.0005, 0.001)[selection.chosen] * float(rng.lognormal(0.0, 0.2)),
                    latency_s=(1.0, 0.5, 3.0)[selection.chosen] * float(rng.lognormal(0.0, 0.2)),
                )
            )
            if rng.random() < 0.7 and status == "success":
                self.put(Feedback(policy=policy, time=1.0, decision_id=selection.decision_id, quality=quality))
            if count % publish_every == publish_every - 1:
                self.publish()
        return self

    def select(self, decision_id: str, policy: str, context: np.ndarray) -> Selection:
        """Choose as the plugin does, under the limits in ``self.limits``. Every fifth decision is in shadow mode."""
        beliefs = self.beliefs.get(policy)
        fields: dict[str, object] = {
            "policy": policy,
            "time": 1_700_000_000.0,
            "decision_id": decision_id,
            "arms": ARMS,
            "models": tuple(f"vendor/{arm}" for arm in ARMS),
            "featurizer": "eight",
            "context": context.astype("<i2").tobytes(),
            "objective": Objective().weights(),
        }
        if beliefs is None:
            return Selection.model_validate({**fields, "chosen": 0, "fallback": "no_snapshot"})
        limits = self.limits(decision_id) if self.limits is not None else UNCONSTRAINED
        choice = choose(beliefs, context, ARMS, objective=Objective(), decision_id=decision_id, constraints=limits)
        rows = predictions(beliefs, context, ARMS).tolist()
        if self.limits is not None and int(decision_id[1:]) % 5 == 0:
            taken = {
                "chosen": 0,
                "fallback": "shadow",
                "mode": "shadow",
                "shadow_chosen": choice.index,
                "shadow_probabilities": choice.probabilities.tolist(),
            }
        else:
            taken = {"chosen": choice.index, "probabilities": choice.probabilities.tolist()}
        return Selection.model_validate(
            {
                **fields,
                **taken,
                "constraints": limits.logged(),
                "snapshot_version": beliefs.snapshot.offset,
                "snapshot_hash": beliefs.snapshot.hash,
                "predictions": dict(zip(SIGNALS, rows, strict=True)),
                "flags": choice.flags,
            }
        )

    def stored_published(self) -> list[StoredMessage]:
        return [StoredMessage(0, number, 0, *message) for number, message in enumerate(self.published)]

    def tampered(self, offset: int, **changes: object) -> list[StoredMessage]:
        """Return the log with one event changed afterwards."""
        event = decode_event(self.log[offset].value).model_copy(update=changes)
        return [m._replace(value=encode(event)) if m.offset == offset else m for m in self.log]

    def offset_of(self, decision_id: str, kind: str = "selection") -> int:
        for message in self.log:
            event = decode_event(message.value)
            if event.kind == kind and getattr(event, "decision_id", "") == decision_id:
                return message.offset
        raise LookupError(decision_id)

    def store(self, path: Path, log: Iterable[StoredMessage] | None = None) -> None:
        """Write everything to an embedded log, with unchanged offsets and times."""
        topics = Topics()

        async def write() -> None:
            async with EmbeddedLog(path, topics=topics, retention_s=None) as embedded:
                await embedded.load(topics.events, list(self.log if log is None else log))
                await embedded.append(topics.snapshots, self.published)
                await embedded.append(topics.checkpoints, [Message(*item) for item in self.checkpoints.items()])

        asyncio.run(write())


def partly_rated() -> Installation:
    """Return decisions d0 to d89, of which only the first arm's are rated, and d90 as the plugin then makes it.

    The arms take turns, and all calls succeed. The snapshot was published after 20 decisions of each.
    """
    made = Installation()
    context = np.full(8, 1024, np.int16)
    for number in range(90):
        drawn = made.select(f"d{number}", POLICY, context)
        selection = drawn.model_copy(update={"chosen": number % len(ARMS)})
        made.put(selection)
        made.put(
            Outcome(
                policy=POLICY,
                time=1.0,
                decision_id=selection.decision_id,
                status="success",
                cost_usd=0.01 + 0.001 * (number % 2),
            )
        )
        if selection.arm == ARMS[0]:
            made.put(Feedback(policy=POLICY, time=1.0, decision_id=selection.decision_id, quality=1.0))
        if number == 59:
            made.publish()
    made.put(made.select("d90", POLICY, context))
    return made
