"""What happened to jobs."""

from psycopg.rows import TupleRow

from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import read_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.event import EventKind, JobEvent
from stageflow.contracts.status import status_from_text


class Events(Part):
    """Satisfies ``stageflow.ports.EventStore``."""

    def list_events(self, job_id: str, *, after: int, limit: int) -> list[JobEvent]:
        """Return what happened to a job, in the order in which it was written, from after an event on."""
        return [event_from_row(row) for row in self._database.read(query("list_events"), (job_id, after, limit))]


def event_from_row(row: TupleRow) -> JobEvent:
    """Read the 14 columns of an event."""
    return read_row("event", row[0], lambda: _event(row))


def _event(row: TupleRow) -> JobEvent:
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
        at=row[13],
    )
