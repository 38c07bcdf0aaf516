"""Azure Storage Queue passes the suite, on the emulator."""

import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import ClassVar, Literal, Protocol

import pytest
from azure.storage.queue import QueueServiceClient

from stageflow.backends.azure import AzureStorageQueue
from stageflow.backends.azure.queue import MAX_BODY_BYTES
from stageflow.ports import Queue
from stageflow.testing.conformance.queue import QueueConformance


class Azurite(Protocol):
    """What is needed of the emulator."""

    @property
    def connection_string(self) -> str:
        """The connection string of its account."""
        ...


class TestAzureQueue(QueueConformance):
    """The suite of the port."""

    max_body_bytes: ClassVar[int | None] = MAX_BODY_BYTES
    secrets: ClassVar[tuple[str, ...]] = ("AccountKey", "Eby8vdM02xNO")

    service: QueueServiceClient
    prefix: str

    @pytest.fixture
    def queue(self, azurite: Azurite) -> Iterator[Queue]:
        """Give queues of a new name."""
        self.prefix = f"test-{uuid.uuid4().hex}"
        queue = AzureStorageQueue.from_connection_string(azurite.connection_string, prefix=self.prefix)
        queue.create()
        checked: Queue = queue
        with QueueServiceClient.from_connection_string(azurite.connection_string) as self.service:
            yield checked
        queue.close()

    def put_foreign(self, queue: Queue, kind: Literal["job", "task"], text: str) -> None:
        """Send the text without base64."""
        assert queue.url.endswith(self.prefix)
        self.service.get_queue_client(f"{self.prefix}-{kind}s").send_message(text)

    def parked(self, queue: Queue) -> list[bytes]:
        """Look into both poison queues."""
        assert queue.url.endswith(self.prefix)
        poison = [self.service.get_queue_client(f"{self.prefix}-{kind}s-poison") for kind in ("job", "task")]
        return [_undone(message.content) for queue in poison for message in queue.peek_messages(32)]


def _undone(text: str) -> bytes:
    try:
        body = b64decode(text, validate=True)
    except ValueError:
        return text.encode()
    return body if b64encode(body).decode() == text else text.encode()
