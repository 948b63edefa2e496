"""The size in bytes of all messages, and the resulting traffic of a fleet.

Run ``python -m benchmarks.sizes``; with ``--json`` the last line of the output is one JSON object. The real code
creates events, snapshots and checkpoints from synthetic traffic, whose contexts use all their bits. *Packed* is their
size on Kafka, in batches of one message or of a hundred, compressed with LZ4 as by default. The fleet's traffic is
computed from these numbers; the options set its size.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import cramjam

from benchmarks.traffic import settings_event, traffic
from conduit_learner.core.checkpoint import CheckpointWriter
from conduit_learner.core.partition_learner import PartitionLearner
from conduit_log import StoredMessage
from conduit_schemas import LearningSettings, decode_event, encode

RECORD_BYTES = 12
"""Approximate overhead of a record in a batch: lengths, offset, time, number of headers. Its key is extra."""
BATCH = 100
SHAPES = ((4, 64), (8, 64), (16, 64), (8, 256))
"""Arms and dimension."""
EVENTS_PER_REQUEST = 2.5
"""A selection, an outcome, and feedback on every second request."""


def packed(messages: Sequence[tuple[bytes, bytes]], batch: int) -> float:
    """Return the mean bytes per message on the wire and on the broker's disk, before replication."""
    total = 0
    for start in range(0, len(messages), batch):
        records = b"".join(bytes(RECORD_BYTES) + key + value for key, value in messages[start : start + batch])
        total += len(bytes(cramjam.lz4.compress(records))) + 61  # a batch's own header
    return total / len(messages)


def sizes(arms: int, dimension: int, events: int) -> dict[str, Any]:
    """Return the bytes of everything for one shape."""
    settings = LearningSettings(featurizer=f"bench{dimension}", dimension=dimension, max_open=10_000)
    learner = PartitionLearner(0)
    kinds: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
    messages = [settings_event(settings), *traffic(events, dimension=dimension, arms=arms)]
    for offset, (key, value) in enumerate(messages):
        learner.apply(StoredMessage(0, offset, 10**12 + offset, key, value))
        kinds[decode_event(value).kind].append((key, value))
    snapshot = encode(learner.snapshot("bench/p0"))
    checkpoint = sum(len(record.value) for batch in CheckpointWriter().records(learner) for record in batch)
    return {
        "arms": arms,
        "dimension": dimension,
        **{
            f"{kind}_bytes": _mean(len(value) for _, value in kinds[kind])
            for kind in ("selection", "outcome", "feedback")
        },
        "event_packed_bytes": round(packed(messages, BATCH)),
        "event_alone_packed_bytes": round(packed(messages, 1)),
        "snapshot_bytes": len(snapshot),
        "snapshot_packed_bytes": round(packed([(b"bench/p0", snapshot)], 1)),
        "checkpoint_bytes": checkpoint,
        "open_decisions": len(learner.policies["bench/p0"].open),
    }


def fleet(
    size: dict[str, Any], *, requests_per_s: float, policies: int, processes: int, every_s: float
) -> dict[str, Any]:
    """Return what a fleet moves per second.

    Parameters
    ----------
    size
        The result of :func:`sizes`.
    requests_per_s
        Request rate of all processes together.
    policies
        Number of policies; each is published at most once in ``every_s`` seconds, and only if it has learned.
    processes
        Applications that follow the snapshot topic.
    every_s
        ``--snapshot-every-seconds``, with ``--snapshot-every-events`` out of reach.
    """
    events = EVENTS_PER_REQUEST * requests_per_s
    snapshots = min(policies / every_s, events)
    into = events * size["event_packed_bytes"]
    each = snapshots * size["snapshot_packed_bytes"]
    return {
        "requests_per_s": requests_per_s,
        "policies": policies,
        "processes": processes,
        "snapshot_every_s": every_s,
        "events_per_s": events,
        "events_mb_per_s": round(into / 1e6, 2),
        "events_gb_per_day_and_copy": round(into * 86_400 / 1e9, 1),
        "snapshots_per_s": round(snapshots, 1),
        "snapshots_mb_per_s_per_process": round(each / 1e6, 3),
        "snapshots_mb_per_s_all": round(each * processes / 1e6, 1),
    }


def _mean(numbers: Iterable[int]) -> int:
    counted = list(numbers)
    return round(sum(counted) / len(counted))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--events", type=int, default=20_000, help="events that are learned from [20000]")
    parser.add_argument("--requests", type=float, default=20_000.0, help="the fleet's requests per second [20000]")
    parser.add_argument("--policies", type=int, default=200, help="the fleet's policies [200]")
    parser.add_argument("--processes", type=int, default=4_000, help="the fleet's processes with a plugin [4000]")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between a policy's snapshots [10]")
    options = parser.parse_args(arguments)
    measured = [sizes(arms, dimension, options.events) for arms, dimension in SHAPES]
    typical = next(size for size in measured if (size["arms"], size["dimension"]) == (8, 64))
    report: dict[str, Any] = {
        "sizes": measured,
        "fleet": fleet(
            typical,
            requests_per_s=options.requests,
            policies=options.policies,
            processes=options.processes,
            every_s=options.every,
        ),
    }
    if options.json:
        print(json.dumps(report))
        return
    for size in measured:
        print(", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in size.items()))
    for name, value in report["fleet"].items():
        print(f"{name.replace('_', ' '):34}{value:,}")


if __name__ == "__main__":
    main()
