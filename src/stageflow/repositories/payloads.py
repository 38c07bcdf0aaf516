"""Payloads that are too large for a row: written to the blob store, and fetched, checked, where they are read."""

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from pydantic import ValidationError

from stageflow.contracts.base import JsonObject
from stageflow.contracts.job import JobRecord
from stageflow.contracts.payload import PayloadOptions, PayloadReference, is_reference
from stageflow.contracts.task import TaskRecord, TaskResult
from stageflow.errors import (
    BlobError,
    BlobNotFoundError,
    BlobStoreUnreachableError,
    PayloadsUnreachableError,
    PayloadTooLargeError,
    PayloadUnreadableError,
)
from stageflow.ports import BlobStore

T = TypeVar("T")

HOW_TO_CONFIGURE: Final = (
    "give every process of this store the same one: Stageflow(..., blobs='azure:CONNECTION_STRING' or 'file:FOLDER'), "
    "STAGEFLOW_BLOBS or --blobs"
)
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0


class PayloadShelf:
    """The one way of JSON texts into rows and back: small ones as they are, large ones by reference.

    A text is written before the row that names it, under a name that its job and its content give: writing it again changes
    nothing, and a crash in between leaves a blob that nobody names, never a name without its blob.
    """

    def __init__(
        self,
        blobs: BlobStore | None,
        options: PayloadOptions | None = None,
        *,
        close: Callable[[], None] | None = None,
    ) -> None:
        """Take the blob store, ``None`` for none, and what closes it where nobody else does."""
        self.blobs: Final = blobs
        self.options: Final = options if options is not None else PayloadOptions()
        self._close = close

    def store(self, job_id: str, text: str, what: str, *, patient: bool = False) -> str:
        """Return what a row is to hold for a JSON text: itself, or a reference to the blob that it was written to.

        Args:
            job_id: The job that it belongs to.
            text: The JSON text.
            what: What it is, for messages.
            patient: Wait for a blob store that does not answer.

        Raises:
            PayloadTooLargeError: It is larger than the app may store, or than a row where the app has no blob store.
            PayloadsUnreachableError: The blob store does not answer; nothing was lost, try again.
        """
        size = len(text) if text.isascii() else len(text.encode())
        if size <= self.options.inline_bytes:
            return text
        reference, content = self._large(job_id, text, what, size)
        blobs, container = self._required(what), self.options.container
        self._ask(
            lambda: blobs.write(container, reference.name, content, content_type="application/json"), what, patient=patient
        )
        return reference.to_text()

    def refer(self, job_id: str, text: str, what: str) -> str:
        """Return what :meth:`store` would, and write nothing.

        Raises:
            PayloadTooLargeError: As there.
        """
        size = len(text) if text.isascii() else len(text.encode())
        return text if size <= self.options.inline_bytes else self._large(job_id, text, what, size)[0].to_text()

    def load(self, text: str, what: str, *, patient: bool = False) -> str:
        """Return the JSON text that a row holds or refers to, checked against its reference.

        Raises:
            PayloadUnreadableError: It is not in the blob store, or is not what was written.
            PayloadsUnreachableError: The blob store does not answer, or the app has none.
        """
        if not is_reference(text):
            return text
        try:
            reference = PayloadReference.from_text(text)
        except ValidationError as error:
            msg = f"{what}: its row holds {text[:100]!r}, which is no reference to a payload; restore the row"
            raise PayloadUnreadableError(msg) from error
        blobs = self.blobs
        if blobs is None:
            msg = f"{what} is in a blob store ({reference.size}), and this app has none; {HOW_TO_CONFIGURE}"
            raise PayloadsUnreachableError(msg)
        try:
            content = self._ask(lambda: self._read(blobs, reference), what, patient=patient)
        except BlobNotFoundError as error:
            raise self._unreadable(what, reference, "is not in the blob store") from error
        if len(content) != reference.size_bytes or hashlib.sha256(content).hexdigest() != reference.sha256:
            raise self._unreadable(what, reference, "was changed since it was written: size or checksum differ")
        return content.decode()

    def load_job(self, job: JobRecord, *, parameters: "Spared", results: "Spared") -> JobRecord:
        """Return a job with its parameters, its answer and the results of its tasks loaded; its stage results are there.

        Args:
            job: The job.
            parameters: What may keep the parameters from being loaded.
            results: What may keep the answer and results from being loaded.
        """
        fields: dict[str, JsonObject] = {}
        for name in ("parameters", "result_data"):
            if name in job.shelved:
                spared = parameters if name == "parameters" else results
                value = spared.read(partial(self._object, job.shelved[name], f"{name} of job {job.job_id}"))
                if value is not None:
                    fields[name] = value
        stage_results = {
            key: result.model_copy(
                update={"task_results": [results.read(partial(self.load_result, each)) or each for each in result.task_results]}
            )
            if any(each.shelved for each in result.task_results)
            else result
            for key, result in job.stage_results.items()
        }
        left = {name: text for name, text in job.shelved.items() if name not in fields}
        return job.model_copy(update={**fields, "stage_results": stage_results, "shelved": left})

    def load_task(self, task: TaskRecord) -> TaskRecord:
        """Return a task with its parameters and result loaded."""
        if not task.shelved:
            return task
        return task.model_copy(update={**self._objects(task.shelved, f"task {task.task_id}"), "shelved": {}})

    def load_result(self, result: TaskResult, *, patient: bool = False) -> TaskResult:
        """Return a task's result loaded."""
        if not result.shelved:
            return result
        fields = self._objects(result.shelved, f"task {result.task_id}", patient=patient)
        return result.model_copy(update={**fields, "shelved": {}})

    def close(self) -> None:
        """Close the blob store, if it was opened for this shelf."""
        if self._close is not None:
            self._close()

    def _objects(self, shelved: dict[str, str], owner: str, *, patient: bool = False) -> dict[str, JsonObject]:
        return {name: self._object(text, f"{name} of {owner}", patient=patient) for name, text in shelved.items()}

    def _object(self, text: str, what: str, *, patient: bool = False) -> JsonObject:
        value: JsonObject = json.loads(self.load(text, what, patient=patient))
        return value

    def _large(self, job_id: str, text: str, what: str, size: int) -> tuple[PayloadReference, bytes]:
        self._required(what, size)
        if size > self.options.max_bytes:
            msg = (
                f"{what}: {size} bytes of JSON, at most {self.options.max_bytes} are stored; "
                "write it to a blob yourself and pass on its name"
            )
            raise PayloadTooLargeError(msg)
        content = text.encode()
        return PayloadReference(size_bytes=size, sha256=hashlib.sha256(content).hexdigest(), job_id=job_id), content

    def _required(self, what: str, size: int = 0) -> BlobStore:
        if self.blobs is None:
            msg = (
                f"{what}: {size} bytes of JSON, at most {self.options.inline_bytes} go into a row, and this app has no blob "
                f"store for more; {HOW_TO_CONFIGURE}. Or write it to a blob yourself and pass on its name"
            )
            raise PayloadTooLargeError(msg)
        return self.blobs

    def _read(self, blobs: BlobStore, reference: PayloadReference) -> bytes:
        """Read no more than the reference says and one piece, whatever lies there now."""
        content = bytearray()
        for piece in blobs.read_chunks(self.options.container, reference.name):
            content += piece
            if len(content) > reference.size_bytes:
                break
        return bytes(content)

    def _ask(self, request: Callable[[], T], what: str, *, patient: bool) -> T:
        """Return the answer of the blob store; a patient caller asks again for a while where there is none."""
        deadline = time.monotonic() + (self.options.patience_seconds if patient else 0.0)
        pause = _FIRST_PAUSE
        while True:
            try:
                return request()
            except BlobNotFoundError:
                raise
            except BlobError as error:
                if time.monotonic() + pause > deadline:
                    unreachable = isinstance(error, BlobStoreUnreachableError)
                    said = "does not answer" if unreachable else "cannot do what it is asked for"
                    msg = f"{what} is too large for a row, and the blob store {said}: {error}"
                    raise PayloadsUnreachableError(msg) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _unreadable(self, what: str, reference: PayloadReference, wrong: str) -> PayloadUnreadableError:
        place = f"{reference.name} of container {self.options.container!r}, {reference.size}"
        msg = (
            f"{what} {wrong} (blob {place}); restore the blob and resubmit or repair the job, or submit the work as another "
            "job (new_run)"
        )
        return PayloadUnreadableError(msg)


class Spared:
    """Reads from the blob store, and leaves unread what fails in the given ways.

    Attributes:
        reasons: Why something was left, as sentences.
    """

    def __init__(self, *failures: type[BlobError]) -> None:
        self._failures = failures
        self.reasons: Final[list[str]] = []

    def read(self, load: Callable[[], T]) -> T | None:
        """Return what ``load`` returns, or ``None`` where it fails in such a way."""
        try:
            return load()
        except self._failures as error:
            self.reasons.append(str(error))
            return None
