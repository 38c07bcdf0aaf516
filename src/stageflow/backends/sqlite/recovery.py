"""The work of dead workers goes back; what is due opens; what is left over of halted stages closes."""

import json
from collections.abc import Sequence

from stageflow.backends.sqlite.barrier import close_waiting, close_work, count_off, tally_of
from stageflow.backends.sqlite.checkpoints import forget_checkpoints
from stageflow.backends.sqlite.completion import INSERT_RESULT, NO_TOKEN
from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.ending import end_open_job
from stageflow.backends.sqlite.events import note_stage_event
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Work, delete_range, make_ready
from stageflow.contracts.event import CONTROL_RECOVERED, EventKind
from stageflow.contracts.job import JobEnding
from stageflow.contracts.lease import Recovery, SeenLease, WorkKind
from stageflow.contracts.status import JobStatus, TaskStatus


class SqliteRecovery(StorePart):
    """Recovers."""

    def recover(self, *, expired: Sequence[SeenLease] | None, death_budget: int, limit: int) -> Recovery:
        """Return the work of dead workers, open what is due, close what is left over of halted stages.

        What belongs to an ended job and is held by nobody was closed with the job, under the same write lock; so leases are
        all that can be left of one.

        Args:
            expired: Leases whose beat stood still for a full lease, as the caller saw it; ``None``: go by the store's clock.
            death_budget: How many workers may die on one task before it is failed.
            limit: Most rows of each kind.
        """
        done = {"returned": 0, "quarantined": 0, "closed": 0, "jobs_failed": 0}
        with self._database.transaction() as tx:
            for range_id in _list_dead(tx, expired, limit):
                # One recovery can close others of this list with it (a job that fails, a stage that halts).
                row = tx.row("select * from stageflow_work where range_id = ? and state = 'leased'", (range_id,))
                if row is not None:
                    done[_recover(tx, Work._make(row), death_budget)] += 1
            due = _open_due(tx, limit)
            done["closed"] += _close_halted(tx, limit)
        return Recovery(due=due, **done)


def _list_dead(tx: Transaction, expired: Sequence[SeenLease] | None, limit: int) -> list[int]:
    if expired is None:
        rows = tx.rows(
            "select range_id from stageflow_ranges where state = 'leased' and lease_expires_at < ?"
            " order by lease_expires_at limit ?",
            (tx.now, limit),
        )
    else:
        seen = json.dumps([[lease.range_id, lease.token, lease.beat] for lease in expired])
        rows = tx.rows(
            "select r.range_id from json_each(?) seen cross join stageflow_ranges r on r.range_id = seen.value ->> 0"
            " where r.token = seen.value ->> 1 and r.beat = seen.value ->> 2 and r.state = 'leased' limit ?",
            (seen, limit),
        )
    return [row[0] for row in rows]


def _recover(tx: Transaction, work: Work, death_budget: int) -> str:
    """Take a range from its dead holder, and return the name of the count that this adds to."""
    if work.job_ended:
        close_work(tx, work, TaskStatus.CANCELLED)
        return "closed"
    if work.is_task and work.halted:
        close_work(tx, work, TaskStatus.SKIPPED)
        return "closed"
    if work.is_task and work.width > 1:
        make_ready(tx, work.range_id, suspect=1, deaths=work.deaths, attempt=work.attempt)
        _note_return(tx, work, None)
        return "returned"
    deaths = work.deaths + 1
    if deaths < death_budget:
        make_ready(tx, work.range_id, suspect=int(work.is_task), deaths=deaths, attempt=work.attempt)
        _note_return(tx, work, deaths)
        return "returned"
    if work.is_task:
        _quarantine(tx, work, deaths)
        return "quarantined"
    _fail_job(tx, work, deaths)
    return "jobs_failed"


def _quarantine(tx: Transaction, work: Work, deaths: int) -> None:
    error = f"worker died {deaths} times while it ran this task; the last one was {work.worker_id}"
    tx.run(
        INSERT_RESULT,
        (work.stage_id, work.first, work.generation, work.attempt, "failed", None, error, 0.0, NO_TOKEN, tx.now),
    )
    note_stage_event(
        tx,
        work.stage_id,
        EventKind.TASK_QUARANTINED,
        status="failed",
        tasks=(work.first, work.last),
        attempt=work.attempt,
        worker_id=work.worker_id,
        detail=_died(deaths),
    )
    forget_checkpoints(tx, work.stage_id, [work.first])
    delete_range(tx, work.range_id)
    count_off(tx, work.stage_id, tally_of(TaskStatus.FAILED, 1))


def _note_return(tx: Transaction, work: Work, deaths: int | None) -> None:
    note_stage_event(
        tx,
        work.stage_id,
        EventKind.TASKS_RECOVERED if work.is_task else CONTROL_RECOVERED[WorkKind(work.kind)],
        tasks=(work.first, work.last) if work.is_task else None,
        attempt=work.attempt,
        worker_id=work.worker_id,
        detail=None if deaths is None else _died(deaths),
    )


def _died(deaths: int) -> str:
    return f"workers that died while they ran it alone: {deaths}"


def _fail_job(tx: Transaction, work: Work, deaths: int) -> None:
    verb = "planning" if work.kind == WorkKind.PLAN else "advancing"
    end_open_job(
        tx,
        JobEnding(
            job_id=work.job_id,
            status=JobStatus.FAILED,
            error_details=(
                f"{verb} stage {work.stage_number} killed its worker {deaths} times; the last one was {work.worker_id}"
            ),
            range_id=work.range_id,
            token=work.token,
            stage_id=work.stage_id,
        ),
    )


def _open_due(tx: Transaction, limit: int) -> int:
    opened = tx.run(
        "update stageflow_ranges set state = 'ready', not_before = null, announced_at = null where range_id in"
        " (select range_id from stageflow_ranges where state = 'waiting' and not_before <= ? order by not_before limit ?)",
        (tx.now, limit),
    )
    if opened:
        tx.work_ready = True
    return opened


def _close_halted(tx: Transaction, limit: int) -> int:
    stages = tx.rows(
        "select s.stage_id, j.status = 'paused' and j.run = s.run, count(*) from stageflow_stages s"
        " join stageflow_ranges r on r.stage_id = s.stage_id join stageflow_jobs j on j.job_id = s.job_id"
        " where s.halted = 1 and s.remaining > 0 and r.kind = 'task' and r.state in ('ready', 'waiting', 'held')"
        " group by s.stage_id limit ?",
        (limit,),
    )
    for stage_id, is_paused, _ in stages:
        if is_paused:
            tx.run(
                "update stageflow_ranges set state = 'held', not_before = null where stage_id = ? and kind = 'task'"
                " and state in ('ready', 'waiting')",
                (stage_id,),
            )
        else:
            close_waiting(tx, stage_id, TaskStatus.SKIPPED)
    return sum(count for _, _, count in stages)
