"""Rows of both stores: valid ones with hostile values of the right type, since the databases are typed."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from benchmarks.fuzz import judges, values
from benchmarks.fuzz.decoder import Decoder
from benchmarks.fuzz.judges import at_least, job_id, json_object, one_of, optional, refuse, text, type_name
from stageflow.backends.postgres import rows as postgres
from stageflow.backends.sqlite import outbox, rows
from stageflow.backends.sqlite.rows import Outcome, StageKey

_NOW: Final = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
_ID: Final = "0a" * 32
_WHOLE: Final = (-(2**63), -1, 0, 1, 2, 7, 1000, 2**31, 2**63 - 1)
_TEXTS: Final = (
    "",
    " ",
    "a",
    "A",
    "queued",
    "completed",
    "failed",
    "task",
    "plan",
    "0" * 64,
    "x" * 201,
    "a\n",
    "null",
    "é" * 300,
)
_DATES: Final = (
    _NOW,
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    _NOW.astimezone(timezone(timedelta(hours=2))),
)
_JOB: Final = one_of("queued", "processing", "paused", "completed", "completed_with_errors", "failed", "cancelled")
_STAGE: Final = one_of("pending", "processing", "completed", "completed_with_errors", "failed", "skipped", "cancelled")

Column = tuple[str, Any, Callable[[Any], Any]]
"""Field of the record, a valid value, and the check that gives what the field must hold."""


def _utc(value: datetime) -> datetime:
    return value if value.utcoffset() == timedelta(0) else refuse("not UTC")


def _job(time: Any, check: Callable[[Any], Any]) -> list[Column]:
    return [
        ("job_id", _ID, job_id), ("job_type", "tiles", type_name), ("workflow_version", 1, at_least(1)),
        ("status", "queued", _JOB), ("run", 1, at_least(1)), ("stage", 1, at_least(1)), ("total_stages", 3, at_least(1)),
        ("parameters", '{"n": 3}', json_object), ("metadata", "{}", json_object), ("result_data", None, optional(json_object)),
        ("error_details", None, optional(text)), ("idempotency_key", "", text),
        ("priority", 0, lambda value: judges.whole(value, -1000, 1000)), ("not_before", None, optional(check)),
        ("created_at", time, check), ("updated_at", time, check), ("deadline", None, optional(check)),
        ("timeout_seconds", None, optional(lambda value: judges.whole(value, 1, 31_536_000))),
    ]  # fmt: skip


def _stage(time: Any, check: Callable[[Any], Any], *, halted: Any) -> list[Column]:
    return [
        ("stage_id", 5, at_least(-(2**63))), ("job_id", _ID, job_id), ("run", 1, at_least(1)), ("stage_number", 2, at_least(1)),
        ("generation", 1, at_least(1)), ("name", "tiles", text), ("task_type", "tile", type_name),
        ("status", "processing", _STAGE), ("task_count", 9, at_least(0)), ("remaining", 4, at_least(0)),
        ("successful_tasks", 5, at_least(0)), ("failed_tasks", 0, at_least(0)), ("skipped_tasks", 0, at_least(0)),
        ("cancelled_tasks", 0, at_least(0)), ("halted", halted, bool), ("plan_digest", "", text),
        ("group_first", 2, at_least(1)), ("group_last", 2, at_least(1)), ("stored_result", None, optional(text)),
        ("created_at", time, check), ("updated_at", time, check), ("deadline", None, optional(check)),
    ]  # fmt: skip


_TASK_STATUS: Final = one_of("pending", "queued", "processing", "pending_retry", "completed", "failed", "skipped", "cancelled")
_END: Final = one_of("completed", "failed", "skipped", "cancelled")
_RESULT: Final[list[Column]] = [
    ("task_index", 3, at_least(0)), ("attempt", 1, at_least(1)), ("status", "completed", _END),
    ("result_data", '{"n": 3}', optional(json_object)), ("error_details", None, optional(text)),
    ("execution_time_seconds", 0.5, lambda value: value if 0 <= value < float("inf") else refuse("no time")),
    ("completed_at", _NOW, _utc),
]  # fmt: skip
_TASK: Final[list[Column]] = [
    ("task_index", 3, at_least(0)), ("key", None, optional(text)), ("parameters", '{"n": 3}', json_object),
    ("task_type", "tile", type_name), ("job_type", "tiles", type_name), ("created_at", _NOW, _utc),
    ("status", "completed", _TASK_STATUS),
    ("attempt", 1, at_least(1)), ("result_data", '{"n": 3}', optional(json_object)), ("error_details", None, optional(text)),
    ("heartbeat", None, optional(_utc)), ("updated_at", _NOW, _utc),
]  # fmt: skip
_LEASE: Final[list[Column]] = [
    ("range_id", 4, at_least(-(2**63))), ("token", 9, at_least(-(2**63))), ("kind", "task", one_of("task", "plan", "advance")),
    ("job_id", _ID, job_id), ("job_type", "tiles", type_name), ("workflow_version", 1, at_least(1)), ("run", 1, at_least(1)),
    ("stage_id", 5, at_least(-(2**63))), ("stage_number", 2, at_least(1)), ("generation", 1, at_least(1)),
    ("task_type", "tile", type_name), ("first", 0, at_least(0)), ("last", 8, at_least(0)), ("attempt", 1, at_least(1)),
    ("deaths", 0, at_least(0)), ("suspect", False, bool), ("tasks", ["{}"], list),
]  # fmt: skip
_WORKER: Final[list[Column]] = [
    ("worker_id", "w", lambda value: value if 1 <= len(value) <= 200 else refuse("no worker")), ("host", "h", text),  # noqa: PLR2004
    ("pid", 1, at_least(-(2**63))), ("slots", 1, at_least(1)), ("work_types", ["a/1"], list), ("started_at", _NOW, _utc),
    ("seen_at", _NOW, _utc),
]  # fmt: skip


def _letter(time: Any, check: Callable[[Any], Any]) -> list[Column]:
    filled: Callable[[Any], Any] = lambda value: value or refuse("empty")  # noqa: E731
    return [
        ("queue", "q", filled), ("message_id", "m", filled), ("body", b"\x00\xff", bytes), ("reason", "r", filled),
        ("delivery_count", 1, at_least(1)), ("letter_id", 7, at_least(-(2**63))),
        ("state", "open", one_of("open", "requeued", "discarded")), ("created_at", time, check),
    ]  # fmt: skip


def _hostile(rng: random.Random, valid: Any, check: Callable[[Any], Any]) -> Any:
    """Return another value of a column's type."""
    match valid:
        case bool():
            return not valid
        case int():
            return rng.choice(_WHOLE)
        case float():
            return rng.choice([0.0, -0.0, -1.0, 1e308, float("inf"), float("nan")])
        case datetime():
            return rng.choice(_DATES)
        case bytes():
            return rng.randbytes(rng.randrange(9))
        case str() if check is json_object or valid.startswith("{"):
            return _storable(values.hostile_text(rng, {"n": 1, "deep": {"a": [1, "text"]}, "list": [1.5, None]}))
        case None:
            return rng.choice([None, *_TEXTS[:9]]) if check(_TEXTS[0]) == "" else None
        case _:
            return rng.choice(_TEXTS) if isinstance(valid, str) else valid


def _storable(text: str) -> str:
    """Return what a database gives back: no lone surrogates, no NUL outside of escapes."""
    return text.encode(errors="replace").decode().replace("\0", " ")


def _takes_text(check: Callable[[Any], Any]) -> bool:
    try:
        return bool(check("") == "")
    except (judges.RefusedError, TypeError, AttributeError):
        return False


def _row(columns: list[Column]) -> Callable[[random.Random], tuple[Any, ...]]:
    def make(rng: random.Random) -> tuple[Any, ...]:
        row = [valid for _, valid, _ in columns]
        for _ in range(rng.choice([0, 1, 1, 2])):
            place = rng.randrange(len(columns))
            _, valid, check = columns[place]
            if valid is None:
                row[place] = rng.choice(_TEXTS) if _takes_text(check) else None
            else:
                row[place] = _hostile(rng, valid, check)
        return tuple(row)

    return make


def _judge(columns: list[Column], agree: Callable[[dict[str, Any]], bool]) -> Callable[[tuple[Any, ...]], dict[str, Any]]:
    def judge(row: tuple[Any, ...]) -> dict[str, Any]:
        fields = {name: check(value) for (name, _, check), value in zip(columns, row, strict=True)}
        return fields if agree(fields) else refuse("the columns contradict each other")

    return judge


def _shown(columns: list[Column]) -> Callable[[Any], dict[str, Any]]:
    return lambda record: {name: getattr(record, name) for name, _, _ in columns}


def _of(name: str, columns: list[Column], decode: Callable[[Any], Any], agree: Callable[[dict[str, Any]], bool]) -> Decoder:
    return Decoder(name, _row(columns), decode, _judge(columns, agree), _shown(columns))


def _always(fields: dict[str, Any]) -> bool:  # noqa: ARG001  no column of the row contradicts another
    return True


def _stage_exists(fields: dict[str, Any]) -> bool:
    return bool(fields["stage"] <= fields["total_stages"])


def _says_why(fields: dict[str, Any]) -> bool:
    if fields["status"] == "completed":
        return fields["error_details"] is None
    return fields["status"] != "failed" or bool(fields["error_details"])


_KEY: Final = StageKey(5, _ID, "tiles", 2, 1, "tile", 9, 0, 0)
_MICROS: Final = 1_777_863_721_123_456
_SQLITE_RESULT: Final[list[Column]] = [
    _RESULT[0], ("generation", 1, at_least(-(2**63))), *_RESULT[1:6], ("completed_at", _MICROS, judges.micros),
]  # fmt: skip
_RANGE: Final[list[Column]] = [
    ("range_id", 4, at_least(-(2**63))), ("kind", "task", one_of("task", "plan", "advance")), ("job_id", _ID, job_id),
    ("job_type", "tiles", type_name), ("run", 1, lambda value: judges.whole(value, 1)),
    ("stage_number", 2, lambda value: judges.whole(value, 1)), ("task_type", "tile", type_name),
    ("generation", 1, lambda value: judges.whole(value, 1)), ("first", 0, lambda value: judges.whole(value, 0)),
    ("last", 8, lambda value: judges.whole(value, 1)),
]  # fmt: skip


def _announced(record: Any) -> dict[str, Any]:
    fields: dict[str, Any] = record.message.model_dump(exclude={"wire_version"})
    return {"range_id": record.range_id} | fields


def _judge_announcement(row: tuple[Any, ...]) -> dict[str, Any]:
    fields = dict(zip([name for name, _, _ in _RANGE], row, strict=True))
    is_task = _RANGE[1][2](fields["kind"]) == "task"
    names = list(fields) if is_task else ["range_id", "job_id", "job_type", "run", "stage_number"]
    checks = {name: check for name, _, check in _RANGE}
    found = {name: checks[name](fields[name]) for name in names} | {"kind": "task" if is_task else "job"}
    return found if not is_task or found["first"] < found["last"] else refuse("no task")


def row_decoders() -> list[Decoder]:
    """Return the decoders of rows, of both stores."""
    shown_result = _SQLITE_RESULT[:1] + _SQLITE_RESULT[2:]
    return [
        _of("postgres.job", _job(_NOW, _utc), lambda row: postgres.job_from_row(row, {}), _stage_exists),
        _of("postgres.stage", _stage(_NOW, _utc, halted=False), postgres.stage_from_row, _always),
        _of("postgres.task", _TASK, lambda row: postgres.task_from_row(row, _ID, 2), _always),
        _of("postgres.result", _RESULT, lambda row: postgres.task_result_from_row(row, _ID, 2, "tile"), _says_why),
        _of("postgres.lease", _LEASE, postgres.lease_from_row, _always),
        _of("postgres.worker", _WORKER, postgres.worker_from_row, _always),
        _of("postgres.letter", _letter(_NOW, _utc), postgres.dead_letter_from_row, _always),
        Decoder("postgres.range", _row(_RANGE), postgres.announcement_from_row, _judge_announcement, _announced),
        _of("sqlite.job", _job(_MICROS, judges.micros), lambda row: rows.to_job_record(row, {}), _stage_exists),
        _of("sqlite.stage", _stage(_MICROS, judges.micros, halted=0), rows.to_stage_record, _always),
        Decoder(
            "sqlite.result",
            _row(_SQLITE_RESULT),
            lambda row: rows.to_task_result(_KEY, Outcome._make(row)),
            lambda row: {name: value for name, value in _judge(_SQLITE_RESULT, _says_why)(row).items() if name != "generation"},
            _shown(shown_result),
        ),
        _of("sqlite.letter", _letter(_MICROS, judges.micros), outbox.to_letter, _always),
    ]
