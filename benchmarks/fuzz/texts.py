"""Messages, the command line, stored results, blobs and addresses."""

import json
import random
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from azure.storage.queue import QueueMessage

from benchmarks.fuzz import judges, values
from benchmarks.fuzz.decoder import Decoder
from benchmarks.fuzz.judges import RefusedError, refuse
from stageflow import Contract
from stageflow.backends.azure.queue import received
from stageflow.backends.files import read_kept_type
from stageflow.cli.parameters import decode_parameters
from stageflow.contracts.base import JsonObject
from stageflow.contracts.blob import validate_blob_name
from stageflow.contracts.ids import parse_task_id, validate_job_id
from stageflow.contracts.json_text import read_json_object
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.queue import ReceivedMessage
from stageflow.contracts.stage_result import StageResultsFormatter
from stageflow.engine.messages import decode_message

_ID: Final = "0a" * 32
_NOW: Final = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
_JOB_MESSAGE: Final = {"wire_version": 1, "job_id": _ID, "job_type": "tiles", "run": 1, "stage_number": 1, "kind": "job"}
_TASK_MESSAGE: Final = _JOB_MESSAGE | {"kind": "task", "task_type": "tile", "generation": 1, "first": 0, "last": 11}


class Order(Contract):
    """Parameters as a user declares them."""

    number: int
    name: str = "x"
    share: float = 1.0
    given: JsonObject


_ORDER: Final = {"number": 1, "name": "one", "share": 0.5, "given": {"a": [1, {"b": None}]}}
_STORED: Final = {
    "stage_number": 1, "status": "completed", "task_count": 1, "successful_tasks": 1, "failed_tasks": 0, "skipped_tasks": 0,
    "cancelled_tasks": 0, "success_rate": 100.0, "completed_at": "2026-05-04T03:02:01Z", "metadata": {"a": 1},
    "orchestration": None,
}  # fmt: skip


def _message(body: bytes) -> ReceivedMessage:
    return ReceivedMessage(queue="q", message_id="m", body=body, receipt="r", delivery_count=1, inserted_at=_NOW)


def _bytes_of(fields: dict[str, Any]) -> Any:
    return lambda rng: values.as_bytes(rng, values.hostile_text(rng, fields))


def _shown_message(value: JobQueueMessage | TaskQueueMessage) -> dict[str, Any]:
    if type(value).from_wire(value.to_wire()) != value:
        refuse("it does not come back")
    return value.model_dump()


def _judge_order(text: str) -> dict[str, Any]:
    given = judges.load(text)
    if not isinstance(given, dict) or set(given) - set(_ORDER) or {"number", "given"} - set(given):
        refuse("other fields")
    fields: dict[str, Any] = {"name": "x", "share": 1.0} | given
    if type(fields["number"]) is not int or type(fields["name"]) is not str or type(fields["given"]) is not dict:
        refuse("other types")
    if type(fields["share"]) not in {int, float}:
        refuse("no number")
    return fields | {"share": float(fields["share"])}


def _judge_stored(text: str) -> dict[str, Any]:
    given = judges.last_wins(text)
    if not isinstance(given, dict) or set(given) != set(_STORED):
        refuse("other fields")
    counts = [judges.whole(given[name], 0, 2**70) for name in list(_STORED)[2:7]]
    if type(given["stage_number"]) is not int or given["stage_number"] != 1 or counts[0] != sum(counts[1:]):
        refuse("the counts disagree")
    judges.one_of("completed", "completed_with_errors", "failed", "skipped", "cancelled")(given["status"])
    if type(given["success_rate"]) not in {int, float} or not isinstance(given["metadata"], dict):
        refuse("other types")
    rate = 100.0 * counts[1] / counts[0] if counts[0] else 100.0
    if abs(given["success_rate"] - rate) > 1e-6:  # noqa: PLR2004
        refuse("another rate")
    return {name: given[name] for name in [*list(_STORED)[2:7], "metadata", "status"]}


def _judge_kept(raw: bytes) -> dict[str, Any]:
    given = judges.last_wins(raw.decode()) if _is_utf8(raw) else refuse("no UTF-8")
    if not isinstance(given, dict) or set(given) != {"etag", "content_type"}:
        refuse("other fields")
    return {name: judges.text(value) for name, value in given.items()}


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _queue_message(content: str) -> QueueMessage:
    message = QueueMessage(content=content)
    message.id, message.pop_receipt, message.dequeue_count, message.inserted_on = "m", "r", 1, _NOW
    return message


def _transported(rng: random.Random) -> str:
    text = b64encode(values.as_bytes(rng, values.hostile_text(rng, _TASK_MESSAGE))).decode()
    return rng.choice(
        [text, text[:-1], text + "=", text + "\n", text.replace("=", ""), "é" + text, text[:5] + " " + text[5:], ""]
    )


def _judge_transport(content: str) -> tuple[bytes, bool]:
    try:
        body = b64decode(content.encode(), validate=True)
    except ValueError:
        return content.encode(), False
    return (body, True) if b64encode(body) == content.encode() else (content.encode(), False)


def _name(rng: random.Random) -> str:
    whole = rng.choice(["tiles/0-1.bin", "a", _ID, f"{_ID}-1-0"])
    return (
        values.spoiled(rng, whole)
        if rng.choice([True, True, False])
        else rng.choice([whole, "../" + whole, whole + "/..", "/" + whole, whole + "\n"])
    )


def _judge_job_id(text: str) -> str:
    return str(judges.job_id(text))


def _judge_task_id(text: str) -> tuple[str, int, int]:
    parts = text.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and str(int(part)) == part for part in parts[1:]):  # noqa: PLR2004
        refuse("no task id")
    return judges.job_id(parts[0]), judges.whole(int(parts[1]), 1), judges.whole(int(parts[2]), 0)


def _judge_blob_name(name: str) -> str:
    inside = Path("/root/container")
    if not 1 <= len(name) <= 1024 or "\\" in name or any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in name):  # noqa: PLR2004
        refuse("no name")
    if (
        "/".join(Path("/root/container", name).parts[3:]) != name
        or inside not in Path(inside, name).parents
        or ".." in name.split("/")
    ):
        refuse("it leads elsewhere")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        refuse("no UTF-8")
    return name


def _decoded(raw: bytes) -> JobQueueMessage | TaskQueueMessage:
    return decode_message(_message(raw))


def _same(value: Any) -> Any:
    return value


def text_decoders() -> list[Decoder]:
    """Return the decoders of texts and bytes."""
    folder = Path(mkdtemp(prefix="stageflow-fuzz-")) / "kept"

    def kept(raw: bytes) -> Any:
        folder.write_bytes(raw)
        return read_kept_type(folder)

    stored = lambda text: StageResultsFormatter.from_stored(1, text, None)  # noqa: E731
    kept_type = {"etag": "1-2", "content_type": "text/plain"}
    given = {"a": 1, "b": [1.5, None, "text"], "c": {"d": {}}}
    return [
        Decoder("message.job", _bytes_of(_JOB_MESSAGE), _decoded, judges.message, _shown_message),
        Decoder("message.task", _bytes_of(_TASK_MESSAGE), _decoded, judges.message, _shown_message),
        Decoder("message.wire", _bytes_of(_TASK_MESSAGE), TaskQueueMessage.from_wire,
            lambda raw: judges.message(raw, "task"), _shown_message),
        Decoder(
            "message.transport", _transported, lambda content: received("q", _queue_message(content)), _judge_transport,
            lambda value: (value.body, value.decode_error is None),
        ),
        Decoder(
            "cli.parameters", lambda rng: values.hostile_text(rng, _ORDER), lambda text: decode_parameters(Order, text),
            _judge_order, lambda value: json.loads(value.to_json()),
        ),
        Decoder("cli.job_id", _name, validate_job_id, _judge_job_id, _same),
        Decoder("cli.task_id", _name, parse_task_id, _judge_task_id, _same),
        Decoder(
            "stored.result", lambda rng: values.hostile_text(rng, _STORED), stored, _judge_stored,
            lambda value: {name: getattr(value, name) for name in [*list(_STORED)[2:7], "metadata", "status"]},
        ),
        Decoder(
            "stored.object", lambda rng: values.hostile_text(rng, given), lambda text: read_json_object(text, "it"),
            judges.json_object, _same,
        ),
        Decoder("blob.kept_type", _bytes_of(kept_type), kept, _judge_kept, lambda value: value.model_dump()),
        Decoder("blob.name", _name, validate_blob_name, _judge_blob_name, _same),
    ]  # fmt: skip


__all__ = ["RefusedError", "text_decoders"]
