"""The messages of a fan-out with the bare Azure SDK: sent, received and deleted, and nothing is done about them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Semaphore
from typing import Final

from azure.core.exceptions import AzureError
from azure.storage.queue import QueueClient, QueueMessage

from benchmarks.fleet import Fleet, await_end
from benchmarks.measurement import say

PAGE: Final = 32
"""The most messages that the service hands out at a time."""
SENDS_IN_FLIGHT: Final = 8
DELETES_IN_FLIGHT: Final = 4
"""As many as our queue has, and as many as a worker of ours."""
HIDDEN_SECONDS: Final = 10
"""How soon a message comes back that somebody received and could not delete."""
_EMPTY_SECONDS: Final = 0.005
_PATIENCE_SECONDS: Final = 300.0
_BODY: Final = "x" * 340
"""As long as ours: base64 of a job's id, a type and a range."""


class BareMessages:
    """A queue whose messages are sent by this process and consumed by a fleet.

    Each stage's messages are sent when all of the one before are gone, as they must be in a job: what a barrier holds back
    cannot be announced earlier.
    """

    def __init__(self, connection_string: str, name: str, workers: int) -> None:
        self._connection_string = connection_string
        self._name = name
        self._workers = workers
        self._gone = multiprocessing.get_context("spawn").Semaphore(0)

    @contextmanager
    def consumed(self) -> Iterator[Callable[[list[int]], float]]:
        """Give a function that sends so many messages a stage, and returns the seconds until the last was deleted."""
        with (
            QueueClient.from_connection_string(self._connection_string, self._name) as queue,
            ThreadPoolExecutor(SENDS_IN_FLIGHT) as pool,
        ):
            queue.create_queue()
            try:
                with Fleet(self._workers, consume, self._connection_string, self._name, self._gone):
                    yield lambda stages: self._time(queue, pool, stages)
            finally:
                queue.delete_queue()

    def _time(self, queue: QueueClient, pool: ThreadPoolExecutor, stages: list[int]) -> float:
        start = time.perf_counter()
        for count in stages:
            list(pool.map(lambda _: queue.send_message(_BODY, time_to_live=-1), range(count)))
            for _ in range(count):
                if not self._gone.acquire(timeout=_PATIENCE_SECONDS):
                    msg = f"a message of {count} was not deleted within {_PATIENCE_SECONDS:.0f} s; look at standard error"
                    raise TimeoutError(msg)
        return time.perf_counter() - start


def consume(ready: Connection, connection_string: str, name: str, gone: Semaphore) -> None:
    """Be a process that receives and deletes messages until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread: only await_end takes it
    stopping, room = threading.Event(), threading.Semaphore(PAGE)
    with (
        QueueClient.from_connection_string(connection_string, name) as queue,
        ThreadPoolExecutor(DELETES_IN_FLIGHT) as pool,
    ):

        def delete(message: QueueMessage) -> None:
            try:
                queue.delete_message(message)
                gone.release()
            except AzureError as error:
                say(f"  a message was not deleted, and comes back: {type(error).__name__}")
            finally:
                room.release()

        def receive() -> None:
            while not stopping.is_set():
                pages = queue.receive_messages(messages_per_page=PAGE, max_messages=PAGE, visibility_timeout=HIDDEN_SECONDS)
                page = list(next(pages.by_page(), iter(())))
                for message in page:
                    room.acquire()
                    pool.submit(delete, message)
                if not page:
                    stopping.wait(_EMPTY_SECONDS)

        receiver = threading.Thread(target=receive)
        receiver.start()
        ready.send(os.getpid())
        await_end()
        stopping.set()
        receiver.join()
