"""The queue in memory that tests use passes the suite of the port: what is tested with it would not differ elsewhere."""

from collections.abc import Iterator
from typing import Literal

import pytest

from stageflow.ports import Queue
from stageflow.testing.conformance.queue import QueueConformance
from tests.memory_queue import JOBS, TASKS, MemoryQueue


class TestMemoryQueue(QueueConformance):
    """The suite of the port."""

    @pytest.fixture
    def queue(self) -> Iterator[Queue]:
        """Give an empty queue."""
        checked: Queue = MemoryQueue()
        yield checked
        checked.close()

    def put_foreign(self, queue: Queue, kind: Literal["job", "task"], text: str) -> None:
        """Put the text there."""
        assert isinstance(queue, MemoryQueue)
        queue.put(JOBS if kind == "job" else TASKS, text.encode())

    def parked(self, queue: Queue) -> list[bytes]:
        """Look at the poison."""
        assert isinstance(queue, MemoryQueue)
        return queue.poison
