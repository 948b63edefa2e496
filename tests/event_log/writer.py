"""A process that uses the embedded log, for tests that kill it: python writer.py append|own FOLDER KEY COUNT."""

import asyncio
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from conduit_log import Message
from conduit_log.embedded import EmbeddedLog
from conduit_schemas import Topics


async def append(folder: Path, key: bytes, start: int, count: int) -> None:
    """Append growing numbers in batches of changing size; print how many are confirmed."""
    async with EmbeddedLog(folder, topics=Topics()) as log:
        print("ready", flush=True)
        number, end, size = start, start + count, 1
        while number < end:
            batch = [Message(key, b"%d" % value + b" " * 500) for value in range(number, min(number + size, end))]
            await log.append("conduit.events", batch)
            number += len(batch)
            size = size % 17 + 1
            print(number, flush=True)


async def own(folder: Path) -> None:
    """Own the partition until killed."""

    async def assigned(partitions: Collection[int]) -> Mapping[int, int]:
        print("owned", flush=True)
        return {}

    async def revoked(partitions: Collection[int]) -> None:
        raise AssertionError

    async with (
        EmbeddedLog(folder, topics=Topics()) as log,
        log.group_reader("conduit.events", "g", on_assigned=assigned, on_revoked=revoked) as reader,
    ):
        while True:
            await reader.poll(timeout_s=1.0)


if __name__ == "__main__":
    what, path, *rest = sys.argv[1:]
    if what == "append":
        asyncio.run(append(Path(path), rest[0].encode(), int(rest[1]), int(rest[2])))
    else:
        asyncio.run(own(Path(path)))
