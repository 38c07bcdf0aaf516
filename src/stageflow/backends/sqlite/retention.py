"""What is deleted because of its age."""

from datetime import datetime
from typing import Final

from stageflow.backends.sqlite.clock import stored_time, to_micros
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.contracts.damage import nearest_time
from stageflow.contracts.retention import PurgeBatch, PurgedBatch, PurgedLetters, PurgePosition
from stageflow.contracts.status import StatusValidator
from stageflow.errors import StoreStateError

_CANDIDATES: Final = (
    "select job_id, created_at from stageflow_jobs where status = ?1 and created_at < ?2 and updated_at < ?2"
    " and (?3 is null or (created_at, job_id) > (?3, ?4)) order by created_at, job_id limit ?5"
)
_OPEN_WORK: Final = (
    "select 1 from stageflow_ranges where stage_id in (select stage_id from stageflow_stages where job_id = ?)"
    " and state in ('ready', 'leased', 'waiting', 'held') limit 1"
)
_OF_JOB: Final = "where stage_id in (select stage_id from stageflow_stages where job_id = ?1)"
_DELETE: Final = "delete from {table} {where}"
# Children before their parents, as the foreign keys want it.
_DELETIONS: Final = (
    *(
        _DELETE.format(table=f"stageflow_{table}", where=_OF_JOB)
        for table in ("checkpoints", "partials", "results", "tasks", "ranges")
    ),
    _DELETE.format(table="stageflow_stages", where="where job_id = ?1"),
    _DELETE.format(table="stageflow_events", where="where job_id = ?1"),
    _DELETE.format(table="stageflow_limits", where="where scope = ?1"),
    _DELETE.format(table="stageflow_jobs", where="where job_id = ?1"),
)


def _size(base: int, *columns: str) -> str:
    """Return the expression for about how many bytes a row has: its texts, and a round number for the rest."""
    return " + ".join([str(base), *(f"ifnull(length(cast({column} as blob)), 0)" for column in columns)])


_SIZE: Final = "select count(*), ifnull(sum({size}), 0) from {table} {where}"
_TASKS: Final = _SIZE.format(size=_size(50, "parameters", "key"), table="stageflow_tasks", where=_OF_JOB)
_REST: Final = (
    _SIZE.format(size=_size(60, "result", "error_details"), table="stageflow_results", where=_OF_JOB),
    _SIZE.format(size=_size(40, "value"), table="stageflow_partials", where=_OF_JOB),
    _SIZE.format(size=_size(40, "value"), table="stageflow_checkpoints", where=_OF_JOB),
    _SIZE.format(size=_size(150, "error_details"), table="stageflow_ranges", where=_OF_JOB),
    _SIZE.format(size=_size(200, "stored_result"), table="stageflow_stages", where="where job_id = ?1"),
    _SIZE.format(size=_size(100, "detail"), table="stageflow_events", where="where job_id = ?1"),
    _SIZE.format(
        size=_size(400, "parameters", "metadata", "result_data", "error_details"),
        table="stageflow_jobs",
        where="where job_id = ?1",
    ),
)
_OLD_LETTERS: Final = (
    "select letter_id, 100 + length(body) + length(cast(reason as blob)) from stageflow_dead_letters"
    " where state <> 'open' and created_at < ? order by letter_id limit ?"
)


class SqliteRetention(StorePart):
    """Deletes ended jobs and letters that were dealt with."""

    def purge_jobs(self, batch: PurgeBatch) -> PurgedBatch:
        """Delete ended jobs of one status, oldest first, each whole; one with open work is passed over.

        Raises:
            StoreStateError: The status is not an end.
        """
        if not StatusValidator.is_terminal(batch.status):
            msg = f"jobs that are {batch.status} have not ended and are never purged; name a terminal status"
            raise StoreStateError(msg)
        with self._database.reading() if batch.dry_run else self._database.transaction() as tx:
            return _purge(tx, batch)

    def purge_letters(self, *, before: datetime, limit: int, dry_run: bool) -> PurgedLetters:
        """Delete dead letters that were parked earlier and are no longer open."""
        with self._database.reading() if dry_run else self._database.transaction() as tx:
            rows = tx.rows(_OLD_LETTERS, (to_micros(before), limit))
            if not dry_run:
                tx.run_many("delete from stageflow_dead_letters where letter_id = ?", ((row[0],) for row in rows))
        return PurgedLetters(letters=len(rows), size_bytes=sum(row[1] for row in rows))


def _purge(tx: Transaction, batch: PurgeBatch) -> PurgedBatch:
    jobs = tasks = size_bytes = kept = 0
    last = None
    after = (None, None) if batch.after is None else (to_micros(batch.after.created_at), batch.after.job_id)
    for job_id, created_at in tx.rows(_CANDIDATES, (batch.status.value, to_micros(batch.before), *after, batch.limit)):
        last = PurgePosition(created_at=nearest_time(stored_time(created_at)), job_id=job_id)
        if tx.row(_OPEN_WORK, (job_id,)) is not None:
            kept += 1
            continue
        ((count, bytes_of_tasks),) = tx.rows(_TASKS, (job_id,))
        jobs, tasks = jobs + 1, tasks + count
        size_bytes += bytes_of_tasks + sum(tx.rows(sql, (job_id,))[0][1] for sql in _REST)
        if not batch.dry_run:
            for deletion in _DELETIONS:
                tx.run(deletion, (job_id,))
        if tasks >= batch.max_tasks:
            break
    return PurgedBatch(jobs=jobs, tasks=tasks, size_bytes=size_bytes, kept=kept, last=last)
