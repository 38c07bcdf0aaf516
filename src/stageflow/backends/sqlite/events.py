"""What happened to jobs: noted in the transaction of the change, and listed."""

from collections.abc import Sequence
from typing import Final

from stageflow.backends.sqlite.clock import stored_time
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.contracts.damage import ROW_FAULTS, malformed
from stageflow.contracts.event import DETAIL_LENGTH, EventKind, JobEvent
from stageflow.contracts.status import status_from_text

_NOTE: Final = (
    "insert into stageflow_events (job_id, run, stage_number, kind, status, detail, at)"
    " select job_id, run, ?, ?, ?, ?, ? from stageflow_jobs where job_id = ?"
)
_NOTE_STAGE: Final = (
    "insert into stageflow_events (job_id, run, stage_number, generation, kind, status, first, last, tasks, attempt, worker_id,"
    " detail, at) select job_id, run, stage_number, generation, ?, ?, ?, ?, ?, ?, ?, ?, ? from stageflow_stages"
    " where stage_id = ?"
)
# The submission wrote the job and its first stage; their time tells of it.
_LIST: Final = (
    "select * from (select n.column1 as event_id, j.job_id, 1, n.column3, n.column3, n.column2, null, null, null, null, null,"
    " null, null, j.created_at from stageflow_jobs j"
    " cross join (values (-1, 'job_submitted', null), (0, 'stage_opened', 1)) n where j.job_id = ?1 and n.column1 > ?2"
    " union all select * from (select event_id, job_id, run, stage_number, generation, kind, status, first, last, tasks,"
    " attempt, worker_id, detail, at from stageflow_events where job_id = ?1 and event_id > ?2 order by event_id limit ?3))"
    " order by event_id limit ?3"
)


class SqliteEvents(StorePart):
    """Satisfies ``stageflow.ports.EventStore``."""

    def list_events(self, job_id: str, *, after: int, limit: int) -> list[JobEvent]:
        """Return what happened to a job, in the order in which it was written, from after an event on."""
        with self._database.reading() as tx:
            rows = tx.rows(_LIST, (job_id, after, limit))
        return [_to_event(row) for row in rows]


def note_event(
    tx: Transaction,
    job_id: str,
    kind: EventKind,
    *,
    status: str | None = None,
    stage_number: int | None = None,
    detail: str | None = None,
) -> None:
    """Note what happened to a job in its present run."""
    tx.run(_NOTE, (stage_number, kind.value, status, _cut(detail), tx.now, job_id))


def note_stage_event(
    tx: Transaction,
    stage_id: int,
    kind: EventKind,
    *,
    status: str | None = None,
    tasks: tuple[int, int] | None = None,
    count: int | None = None,
    attempt: int | None = None,
    worker_id: str | None = None,
    detail: str | None = None,
) -> None:
    """Note what happened to a stage, or to tasks of it.

    Args:
        tasks: First index and one past the last of the tasks concerned.
        count: How many these are, where not all between are among them.
    """
    first, last = tasks or (None, None)
    if tasks is not None and count is None:
        count = tasks[1] - tasks[0]
    tx.run(
        _NOTE_STAGE,
        (kind.value, status, first, last, count, attempt, worker_id or None, _cut(detail), tx.now, stage_id),
    )


def note_indexes(
    tx: Transaction,
    stage_id: int,
    kind: EventKind,
    indexes: Sequence[int],
    *,
    attempt: int,
    worker_id: str | None,
    detail: str | None,
) -> None:
    """Note what happened to tasks of a stage, ascending and at least one, in one event however many they are."""
    note_stage_event(
        tx,
        stage_id,
        kind,
        tasks=(indexes[0], indexes[-1] + 1),
        count=len(indexes),
        attempt=attempt,
        worker_id=worker_id,
        detail=detail,
    )


def _cut(detail: str | None) -> str | None:
    return None if detail is None else detail[-DETAIL_LENGTH:]


def _to_event(row: Row) -> JobEvent:
    try:
        return JobEvent(
            event_id=row[0],
            job_id=row[1],
            run=row[2],
            stage_number=row[3],
            generation=row[4],
            kind=status_from_text(EventKind, row[5]),
            status=row[6],
            first=row[7],
            last=row[8],
            tasks=row[9],
            attempt=row[10],
            worker_id=row[11],
            detail=row[12],
            at=stored_time(row[13]),
        )
    except ROW_FAULTS as error:
        what = f"event {row[0]} of job {row[1]}"
        raise malformed(what, error) from error
