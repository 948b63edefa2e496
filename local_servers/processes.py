"""Runs each server in a process of its own, so that it does not disturb measurements, and the broker can be killed."""

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

__all__ = ["BrokerProcess", "model_server_process"]


class BrokerProcess:
    """A Kafka broker in a process of its own, as an asynchronous context manager.

    Parameters
    ----------
    folder
        Where the broker keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_keep_broker, args=(folder, far_end))
        self._process.start()
        far_end.close()

    async def __aenter__(self) -> "BrokerProcess":
        self.bootstrap: str = await asyncio.to_thread(self._pipe.recv)
        return self

    async def __aexit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._pipe.send("end")
        await asyncio.to_thread(self._process.join)

    async def tell(self, what: str) -> None:
        """Kill the broker (``kill``) or start it again (``start``), and return when this is done."""
        self._pipe.send(what)
        await asyncio.to_thread(self._pipe.recv)


@contextmanager
def model_server_process() -> Iterator[str]:
    """Run a :class:`~local_servers.model_server.ModelServer` in a process of its own and yield its address."""
    context = multiprocessing.get_context("spawn")
    pipe, far_end = context.Pipe()
    process = context.Process(target=_keep_model_server, args=(far_end,))
    process.start()
    far_end.close()
    try:
        yield pipe.recv()
    finally:
        with suppress(OSError):
            pipe.send("end")
        process.join()


def _keep_broker(folder: Path, pipe: Connection) -> None:
    from local_servers.broker import private_broker  # noqa: PLC0415 - takes packages that not every process needs

    with private_broker(folder) as broker:
        pipe.send(broker.bootstrap)
        with suppress(EOFError):
            while (what := pipe.recv()) != "end":
                (broker.kill if what == "kill" else broker.start)()
                pipe.send("done")


def _keep_model_server(pipe: Connection) -> None:
    from local_servers.model_server import ModelServer  # noqa: PLC0415 - as above

    async def run() -> None:
        async with ModelServer().running() as server:
            pipe.send(server.url)
            with suppress(EOFError):
                await asyncio.to_thread(pipe.recv)

    asyncio.run(run())
