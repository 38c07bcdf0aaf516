"""Azure Storage Queue as a ``Queue``: base64 on both sides, receipts that get lost, and a poison queue."""

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import UTC
from functools import partial
from typing import Any, Final, Self

from azure.core.exceptions import AzureError, ResourceExistsError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.queue import LinearRetry, QueueClient, QueueMessage, QueueServiceClient
from requests import Session
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from stageflow.backends.azure.access import (
    Answer,
    ask,
    connection_string_refused,
    error_code,
    explain,
    is_unreachable,
    validate_credential,
)
from stageflow.backends.azure.urls import DEFAULT_PREFIX, SCHEME, validate_account_url, validate_prefix
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.errors import InvalidValueError, MessagesUnsentError, MessageTooLargeError, QueueError, QueueUnreachableError

MAX_BODY_BYTES: Final = 49_152
"""What fits into the service's 65,536 bytes once it is base64."""
_BATCH: Final = 32
_SENDS_IN_FLIGHT: Final = 8
"""Messages that one call sends at the same time."""
_CONNECTIONS: Final = 32
"""Kept open between requests: sends, and the threads that receive, hide and delete."""
_LONGEST_HIDING: Final = 7 * 24 * 3600
_NEVER_EXPIRES: Final = -1
_ROLE: Final = "Storage Queue Data Contributor"
_LOST: Final = frozenset({"PopReceiptMismatch", "MessageNotFound"})


def _patience() -> dict[str, Any]:
    """Return the SDK's options: an unreachable service is an error within 10 s, where the SDK itself would take minutes."""
    session = Session()
    # As the SDK's own: what goes wrong is raised as it is, and retried by the policy below alone.
    no_retries = Retry(total=False, redirect=False, raise_on_status=False)
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=_CONNECTIONS, max_retries=no_retries)
    for protocol in ("https://", "http://"):
        session.mount(protocol, adapter)
    return {
        "transport": RequestsTransport(session=session, connection_timeout=3, read_timeout=3),
        "retry_policy": LinearRetry(
            backoff=1, random_jitter_range=0, retry_total=2, retry_connect=1, retry_read=1, retry_status=2
        ),
    }


class AzureStorageQueue:
    """The queues ``<prefix>-jobs`` and ``<prefix>-tasks`` of a storage account, and ``…-poison`` beside each.

    Messages are base64 of ASCII JSON, which every other reader of such queues expects, never expire, and are hints only:
    one that is lost, doubled or late changes nothing. Safe to use from several threads.
    """

    def __init__(self, service: QueueServiceClient, *, prefix: str = DEFAULT_PREFIX) -> None:
        """Take a client of the service; prefer :meth:`from_connection_string` and :meth:`from_credential`.

        The client must not decode messages itself: the SDK loses a whole page when one message of it cannot be decoded.
        """
        validate_prefix(prefix)
        self._service = service
        self._jobs = service.get_queue_client(f"{prefix}-jobs")
        self._tasks = service.get_queue_client(f"{prefix}-tasks")
        self._queues = {client.queue_name: client for client in (self._jobs, self._tasks)}
        self._poison = {name: service.get_queue_client(f"{name}-poison") for name in self._queues}
        self._pool = ThreadPoolExecutor(max_workers=_SENDS_IN_FLIGHT, thread_name_prefix="stageflow-azure-send")
        address = f"{SCHEME}{service.scheme}://{service.primary_hostname}"
        self._url = address if prefix == DEFAULT_PREFIX else f"{address}?prefix={prefix}"

    @classmethod
    def from_connection_string(cls, connection_string: str, *, prefix: str = DEFAULT_PREFIX) -> Self:
        """Return the queues of the account that a connection string names; opens no connection.

        Raises:
            InvalidValueError: It is no connection string, or the prefix is no part of a queue name.
        """
        try:
            service = QueueServiceClient.from_connection_string(connection_string, **_patience())
        except ValueError as error:
            refused = connection_string_refused("queue", error)
        else:
            return cls(service, prefix=prefix)
        raise refused

    @classmethod
    def from_credential(cls, account_url: str, credential: object, *, prefix: str = DEFAULT_PREFIX) -> Self:
        """Return the queues of the account at ``https://ACCOUNT.queue.core.windows.net``; opens no connection.

        Args:
            account_url: The endpoint of the account's queue service.
            credential: An object with ``get_token`` (``azure.identity``), ``AzureNamedKeyCredential`` or
                ``AzureSasCredential``.
            prefix: What the names of the queues begin with.

        Raises:
            InvalidValueError: One of them cannot be used; the message says why.
        """
        url = validate_account_url(account_url)
        return cls(QueueServiceClient(url, credential=validate_credential(credential, url), **_patience()), prefix=prefix)

    @property
    def url(self) -> str:
        """The address of the queues, without secrets."""
        return self._url

    def __repr__(self) -> str:
        return f"AzureStorageQueue({self._url!r})"

    def send(self, messages: Sequence[JobQueueMessage | TaskQueueMessage]) -> None:
        """Send messages, each to its queue, several in flight; at least once, in no order.

        Raises:
            MessageTooLargeError: A message is over 49,152 bytes of JSON (64 KiB of base64); none was sent.
            MessagesUnsentError: Some were not sent, and are to be sent again; the error says which. When the service cannot
                be reached, those that were not on their way yet are among them.
        """
        puts = [partial(self._put, self._queue_for(message), _encode(message)) for message in messages]
        futures = [self._pool.submit(put) for put in puts]
        for future in as_completed(futures):
            if not future.cancelled() and isinstance(future.exception(), QueueUnreachableError):
                for other in futures:
                    other.cancel()
        _require_sent(futures)

    def resend(self, queue: str, body: bytes) -> None:
        """Send the body of a message as it was received, whatever it holds, to the queue of this name; as base64, like all.

        Raises:
            InvalidValueError: Neither of the two queues has this name.
            MessageTooLargeError: It is over 49,152 bytes; nothing was sent.
            QueueUnreachableError: It may not have been sent.
        """
        if queue not in self._queues:
            names = " and ".join(self._queues)
            msg = f"there is no queue {queue!r} at {self._url}, which has {names}; connect to the queues it came from"
            raise InvalidValueError(msg)
        if len(body) > MAX_BODY_BYTES:
            msg = f"the message has {len(body):,} bytes; Azure Storage Queue takes {MAX_BODY_BYTES:,} before base64: discard it"
            raise MessageTooLargeError(msg)
        self._put(self._queues[queue], b64encode(body).decode())

    def receive(self, *, max_messages: int, visibility_seconds: float) -> list[ReceivedMessage]:
        """Return up to ``max_messages`` messages, those of the job queue first, hidden from others for the given time.

        Raises:
            InvalidValueError: Less than one message is asked for, or a time of 0 or more than 7 days.
            QueueUnreachableError: The service does not answer, refuses the credentials, or has no such queue.
        """
        if max_messages < 1:
            msg = f"max_messages must be at least 1, got {max_messages}; ask for one message or more"
            raise InvalidValueError(msg)
        seconds = _whole_seconds(visibility_seconds, least=1)
        received: list[ReceivedMessage] = []
        for queue in (self._jobs, self._tasks):
            while (wanted := min(_BATCH, max_messages - len(received))) > 0:
                try:
                    page = self._receive_page(queue, wanted, seconds)
                except QueueUnreachableError:
                    # What was received is hidden from everybody else: hand it out. The next call meets the error again.
                    if received:
                        return received
                    raise
                received += page
                if len(page) < wanted:
                    break
        return received

    def extend(self, message: ReceivedMessage, visibility_seconds: float) -> ReceivedMessage | None:
        """Hide a message for so long from now, 0 to give it back at once; ``None`` where it was lost.

        The answer has a new receipt and replaces the message.
        """
        seconds = _whole_seconds(visibility_seconds, least=0)
        queue = self._queue_of(message)
        request = partial(queue.update_message, message.message_id, pop_receipt=message.receipt, visibility_timeout=seconds)
        updated = self._unless_lost(queue, request)
        return None if updated is None else message.model_copy(update={"receipt": str(updated.pop_receipt)})

    def delete(self, message: ReceivedMessage) -> bool:
        """Acknowledge a message; ``False`` where it was lost: deleted, or received by another since."""
        queue = self._queue_of(message)

        def request() -> bool:
            queue.delete_message(message.message_id, pop_receipt=message.receipt)
            return True

        return self._unless_lost(queue, request) or False

    def park(self, message: ReceivedMessage) -> None:
        """Put a message, byte for byte, into the poison queue, then delete it; after a crash between, it is there twice."""
        self._queue_of(message)
        text = b64encode(message.body) if message.decode_error is None else message.body
        self._put(self._poison[message.queue], text.decode())
        self.delete(message)

    def probe(self) -> int:
        """Reach all four queues and return about how many messages the two for work hold, hidden ones included.

        Only properties are asked for: no message is received, so none is hidden and no delivery is counted.

        Raises:
            QueueUnreachableError: The service does not answer, refuses the credentials, or lacks one of the queues.
        """
        for queue in self._poison.values():
            self._ask(queue, queue.get_queue_properties)
        return sum(self._count(queue) for queue in self._queues.values())

    def create(self) -> None:
        """Create the four queues where they are missing."""
        for queue in (*self._queues.values(), *self._poison.values()):
            self._ask(queue, partial(_create_if_missing, queue))

    def close(self) -> None:
        """Wait for what is being sent, then close all connections."""
        self._pool.shutdown()
        self._service.close()

    def _count(self, queue: QueueClient) -> int:
        count = self._ask(queue, queue.get_queue_properties).approximate_message_count
        if count is None:
            msg = f"the queue {queue.queue_name!r} at {self._url} has no message count; check the emulator's version"
            raise QueueError(msg)
        return count

    def _put(self, queue: QueueClient, text: str) -> None:
        self._ask(queue, partial(queue.send_message, text, time_to_live=_NEVER_EXPIRES))

    def _receive_page(self, queue: QueueClient, count: int, seconds: int) -> list[ReceivedMessage]:
        """Make one request. Iterating over messages instead of pages would ask once more after a page that is not full."""

        def request() -> list[QueueMessage]:
            pages = queue.receive_messages(messages_per_page=count, max_messages=count, visibility_timeout=seconds).by_page()
            return list(next(pages, iter(())))

        return [received(queue.queue_name, message) for message in self._ask(queue, request)]

    def _queue_for(self, message: JobQueueMessage | TaskQueueMessage) -> QueueClient:
        match message:
            case JobQueueMessage():
                return self._jobs
            case TaskQueueMessage():
                return self._tasks

    def _queue_of(self, message: ReceivedMessage) -> QueueClient:
        if message.queue not in self._queues:
            msg = f"message {message.message_id} came from {message.queue!r}, not from {self._url}; use the queue it came from"
            raise InvalidValueError(msg)
        return self._queues[message.queue]

    def _unless_lost(self, queue: QueueClient, request: Callable[[], Answer]) -> Answer | None:
        """Return the answer, or ``None`` where the receipt is stale (400) or the message deleted (404)."""

        def answer() -> Answer | None:
            try:
                return request()
            except AzureError as error:
                if error_code(error) in _LOST:
                    return None
                raise

        return self._ask(queue, answer)

    def _ask(self, queue: QueueClient, request: Callable[[], Answer]) -> Answer:
        return ask(request, partial(self._failure, queue.queue_name))

    def _failure(self, queue_name: str, error: AzureError) -> QueueError:
        place = f"the queue {queue_name!r} at {self._url}"
        if error_code(error) == "QueueNotFound":
            return QueueUnreachableError(
                f"{place} does not exist; make the queues once with `stageflow migrate` and this --queue, or with create()"
            )
        text = explain(error, place, _ROLE)
        return QueueUnreachableError(text) if is_unreachable(error) else QueueError(text)


def _require_sent(futures: list[Future[None]]) -> None:
    """Raise what went wrong with the first of the messages, with the places of all that were not sent."""
    errors = {place: future.exception() for place, future in enumerate(futures) if not future.cancelled()}
    failed = [error for error in errors.values() if error is not None]
    for error in failed:
        if not isinstance(error, QueueError):
            raise error
    if failed:
        unsent = [place for place in range(len(futures)) if place not in errors or errors[place] is not None]
        raise MessagesUnsentError(str(failed[0]), unsent)


def _encode(message: JobQueueMessage | TaskQueueMessage) -> str:
    body = message.to_wire().encode()
    if len(body) > MAX_BODY_BYTES:
        msg = (
            f"the message for stage {message.stage_number} of job {message.job_id} has {len(body):,} bytes; Azure Storage "
            f"Queue takes {MAX_BODY_BYTES:,} before base64. Put the payload into the database or a blob and send its name"
        )
        raise MessageTooLargeError(msg)
    return b64encode(body).decode()


def received(queue_name: str, message: QueueMessage) -> ReceivedMessage:
    """Return a message of the SDK as a delivery, the base64 undone where it is base64.

    Raises:
        QueueError: The service gave it no time or no count.
    """
    text: str = message.content or ""
    body, decode_error = text.encode(), None
    try:
        decoded = b64decode(body, validate=True)
    except ValueError as error:
        decode_error = f"the text of the message is not base64: {error}"
    else:
        # Only what encodes to the same text again is taken as base64, so that parking keeps every byte.
        if b64encode(decoded) == body:
            body = decoded
        else:
            decode_error = "the text of the message is not base64: its last character has stray bits"
    if message.inserted_on is None or message.dequeue_count is None:
        msg = f"the queue {queue_name!r} delivered message {message.id} without time or count; check the emulator's version"
        raise QueueError(msg)
    return ReceivedMessage(
        queue=queue_name,
        message_id=message.id,
        body=body,
        receipt=str(message.pop_receipt),
        delivery_count=message.dequeue_count,
        inserted_at=message.inserted_on.astimezone(UTC),
        decode_error=decode_error,
    )


def _create_if_missing(queue: QueueClient) -> None:
    try:
        queue.create_queue()
    except ResourceExistsError as error:
        if error_code(error) == "QueueBeingDeleted":
            raise


def _whole_seconds(seconds: float, *, least: int) -> int:
    """Return a time as the service takes it, rounded up: a message must not come back too early."""
    if not 0 <= seconds <= _LONGEST_HIDING or math.ceil(seconds) < least:
        msg = f"a message can be hidden for {least} to {_LONGEST_HIDING} seconds, got {seconds}; choose a time within"
        raise InvalidValueError(msg)
    return math.ceil(seconds)
