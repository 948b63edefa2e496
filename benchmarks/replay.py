"""The speed of replaying and verifying a policy's history.

Run ``python -m benchmarks.replay``; with ``--json`` the last line of the output is one JSON object. A learner and the
plugin's decision code write the log together: 64 features, 4 arms, an outcome for every decision, a rating for every
second one, and a new snapshot every 125 events. The log is then read, decoded, replayed and verified, from memory, from
an embedded log and from an archive. Times are processor time, the best of several rounds, because the machine may be
busy with other work.

On two busy cores a replay from memory takes about 11 microseconds per event (90,000 events a second): 2.8 for decoding,
about 4 for learning and for change detection every 64 updates (see :mod:`benchmarks.learner`), and the rest for the
join and counters. A log or an archive adds 2 for reading, and 2 more because newly read data is not cached; smaller
batches do not help. Verification (6,000 events a second) spends more than half of its time on building a snapshot for
every 125 events, 10 ms each: one Cholesky factor for each arm, stiffness and differing signal, with operations in a
fixed order. Other matrix layouts were no faster. LAPACK is faster, but its bits differ between machines. More than a
third of the time is spent on recomputing every decision.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from conduit_learner.audit.archive import Archive
from conduit_learner.audit.archiving import archive
from conduit_learner.audit.history import BlockingLog
from conduit_learner.audit.replay import rebuild
from conduit_learner.audit.verification import verify
from conduit_learner.core.events import decode_event
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_log.embedded import EmbeddedLog
from conduit_policy import SIGNALS, Beliefs, Objective, choose, pack_context, predictions
from conduit_schemas import Event, Feedback, Outcome, Selection, Topics, encode

POLICY = "default/chat"
ARMS = ("a", "b", "c", "d")
DIMENSION = 64
SNAPSHOT_EVERY = 125
ROUNDS = 3


class Log:
    """The log that plugin and learner wrote, in memory."""

    def __init__(self, events: int) -> None:
        self.messages: list[StoredMessage] = []
        self.learner = PartitionLearner(0)
        self._beliefs: Beliefs | None = None
        rng = np.random.default_rng(1)
        number = 0
        while len(self.messages) < events:
            context = np.rint(rng.uniform(-1.0, 1.0, DIMENSION) * 1024).astype(np.int16)
            context[0] = 1024
            decision_id = f"{number:024x}"
            self._put(self._selection(decision_id, context))
            cost, latency = float(rng.lognormal(-7.0, 1.0)), float(rng.lognormal(0.0, 0.5))
            common = {"policy": POLICY, "time": 0.0, "decision_id": decision_id}
            self._put(Outcome.model_validate({**common, "status": "success", "cost_usd": cost, "latency_s": latency}))
            if number % 2:
                self._put(Feedback.model_validate({**common, "quality": float(rng.random())}))
            number += 1

    def _put(self, event: Event) -> None:
        offset = len(self.messages)
        message = StoredMessage(0, offset, 1_000_000 + offset, POLICY.encode(), encode(event))
        self.messages.append(message)
        self.learner.apply(message)
        if offset % SNAPSHOT_EVERY == SNAPSHOT_EVERY - 1:
            self._beliefs = Beliefs(self.learner.snapshot(POLICY))

    def _selection(self, decision_id: str, context: np.ndarray) -> Selection:
        objective = Objective()
        fields: dict[str, object] = {
            "policy": POLICY,
            "time": 0.0,
            "decision_id": decision_id,
            "arms": ARMS,
            "models": ARMS,
            "featurizer": "text64-v2",
            "context": pack_context(context),
            "objective": objective.weights(),
        }
        beliefs = self._beliefs
        if beliefs is None:
            return Selection.model_validate({**fields, "chosen": 0, "fallback": "no_snapshot"})
        choice = choose(beliefs, context, ARMS, objective=objective, decision_id=decision_id)
        predicted = predictions(beliefs, context, ARMS).tolist()
        made = {
            "chosen": choice.index,
            "probabilities": choice.probabilities.tolist(),
            "snapshot_version": beliefs.snapshot.offset,
            "snapshot_hash": beliefs.snapshot.hash,
            "predictions": dict(zip(SIGNALS, predicted, strict=True)),
            "flags": choice.flags,
        }
        return Selection.model_validate({**fields, **made})


def per_second(events: int, work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the events per second of the fastest of several rounds."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return round(events / min(seconds))


def exhaust(messages: Iterable[StoredMessage]) -> None:
    """Read everything."""
    for _ in messages:
        pass


def decode(messages: Iterable[StoredMessage]) -> None:
    """Decode everything."""
    for message in messages:
        decode_event(message.value)


def measure(events: int, folder: Path) -> dict[str, float | bool]:
    """Return every rate, and whether the replayed snapshots equal the learner's."""
    log = Log(events)
    count, topics = len(log.messages), Topics()
    with BlockingLog(embedded := EmbeddedLog(folder, topics=topics, retention_s=None), topics) as blocking:
        blocking.run(embedded.load, topics.events, log.messages)
        archive(blocking, folder / "archive")
        logged, archived = blocking.history(POLICY), Archive(folder / "archive").history(POLICY)
        verification = verify(log.messages, POLICY)
        wanted = log.learner.snapshot(POLICY).hash
        return {
            "events": count,
            "snapshots_verified": verification.snapshots_matched,
            "exact": not verification.mismatched
            and all(rebuild(past, POLICY).hash == wanted for past in (log.messages, logged, archived)),
            "decode_per_s": per_second(count, lambda: decode(log.messages)),
            "read_embedded_per_s": per_second(count, lambda: exhaust(logged)),
            "read_archive_per_s": per_second(count, lambda: exhaust(archived)),
            "replay_memory_per_s": per_second(count, lambda: rebuild(log.messages, POLICY)),
            "replay_embedded_per_s": per_second(count, lambda: rebuild(logged, POLICY)),
            "replay_archive_per_s": per_second(count, lambda: rebuild(archived, POLICY)),
            "verify_per_s": per_second(count, lambda: verify(log.messages, POLICY), rounds=1),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = measure(options.events, Path(folder))
    for name, rate in rates.items():
        print(f"{name.replace('_', ' '):<24}{str(rate) if isinstance(rate, bool) else f'{rate:,.0f}':>10}")
    if options.json:
        print(json.dumps(rates))


if __name__ == "__main__":
    main()
