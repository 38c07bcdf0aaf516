"""Jobs: created in bulk, read, changed besides their status."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from stageflow.backends.sqlite.clock import from_micros, to_micros
from stageflow.backends.sqlite.connection import Row, Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import json_list
from stageflow.backends.sqlite.rows import JOB, STAGES_OF_RUN, to_job_record, to_seen_job, to_stage_record
from stageflow.backends.sqlite.stages import INSERT_STAGE, stage_values
from stageflow.backends.sqlite.tasks import read_task_results
from stageflow.contracts.base import JsonObject, checked_json
from stageflow.contracts.ids import stage_key
from stageflow.contracts.job import CreatedJobs, JobRecord, JobUpdate, NewJob
from stageflow.contracts.job_state import JobState
from stageflow.contracts.payload import is_reference, shelved_stage_result
from stageflow.contracts.stage import HYDRATED_RESULTS, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus
from stageflow.errors import IdempotencyConflictError, MalformedRowError, StageResultsInvalidError

_INSERT_JOB = (
    "insert into stageflow_jobs (job_id, job_type, workflow_version, status, total_stages, parameters, metadata,"
    " idempotency_key,"
    " priority, not_before, stage, deadline, timeout_seconds, created_at, updated_at)"
    " values (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ASKED_JOBS = JOB + "join json_each(?) asked on asked.value = job_id"
_NEWEST_FIRST = "order by created_at desc, job_id desc limit ?"
_INSERT_PLANS = (
    "insert into stageflow_ranges (stage_id, kind, work_type, first, last, state, priority, not_before, created_at)"
    " select s.stage_id, 'plan', j.job_type || '/' || j.workflow_version, 0, 1,"
    " case when j.not_before is null then 'ready' else 'waiting' end, j.priority, j.not_before, ?"
    " from json_each(?) made cross join stageflow_jobs j on j.job_id = made.value"
    " cross join stageflow_stages s on s.job_id = j.job_id and s.run = 1 order by made.key"
)
_INSERT_LIMIT = "insert into stageflow_limits (scope, max_running) values (?, ?)"


class SqliteJobs(StorePart):
    """Creates, reads and annotates jobs."""

    def create_jobs(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> CreatedJobs:
        """Create jobs, each with its first stage and the work of planning it; ``False`` where the id exists.

        With a ``connection`` the jobs become part of its open transaction (one is begun where there is none); its owner
        commits, and workers of other connections notice within their polling time.

        Raises:
            IdempotencyConflictError: An idempotency key of this job type is taken by another job id; nothing is created.
        """
        begun: AbstractContextManager[Transaction]
        begun = self._database.transaction() if connection is None else self._database.inside(connection)
        with begun as tx:
            answers = create_jobs_in(tx, jobs)
            return CreatedJobs(created=answers, created_at=from_micros(tx.now))

    def get_jobs(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return those jobs that exist, in the order asked, with their stage results hydrated."""
        with self._database.reading() as tx:
            return read_jobs(tx, job_ids)

    def get_job_states(self, job_ids: Sequence[str]) -> list[JobState]:
        """Return those jobs that exist, in the order asked, each with the stages of its present run."""
        with self._database.reading() as tx:
            now = from_micros(tx.now)
            jobs = {row[0]: row for row in tx.rows(_ASKED_JOBS, (json_list(list(dict.fromkeys(job_ids))),))}
            return [
                JobState(
                    job=to_job_record(jobs[job_id], {}),
                    stages=[to_stage_record(row) for row in tx.rows(STAGES_OF_RUN, (job_id, jobs[job_id][4]))],
                    now=now,
                )
                for job_id in dict.fromkeys(job_ids)
                if job_id in jobs
            ]

    def list_jobs(
        self,
        *,
        status: JobStatus | None,
        job_type: str | None,
        id_prefix: str,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> list[JobRecord]:
        """Return jobs newest first (created_at, then job_id, descending), from after a position on; no stage results.

        A job whose parameters, metadata or result are no JSON objects is listed with these empty, and its ``damage`` says so.
        """
        conditions = ["substr(job_id, 1, ?) = ?"]
        values: list[str | int] = [len(id_prefix), id_prefix]
        if status is not None:
            conditions.append("status = ?")
            values.append(status.value)
        if job_type is not None:
            conditions.append("job_type = ?")
            values.append(job_type)
        if after is not None:
            conditions.append("(created_at, job_id) < (?, ?)")
            values += [to_micros(after[0]), after[1]]
        where = " and ".join(conditions)
        with self._database.reading() as tx:
            rows = tx.rows(
                f"{JOB} where {where} {_NEWEST_FIRST}",
                (*values, limit),
            )
        return [to_seen_job(row, {}, []) for row in rows]

    def update_job(self, job_id: str, update: JobUpdate) -> bool:
        """Change a job's fields; ``False`` where there is no such job."""
        with self._database.transaction() as tx:
            return apply_update(tx, job_id, update)


def create_jobs_in(tx: Transaction, jobs: Sequence[NewJob]) -> list[bool]:
    """Create those jobs whose ids are new; answers for each whether it was."""
    existing = {
        row[0]
        for row in tx.rows(
            "select job_id from stageflow_jobs where job_id in (select value from json_each(?))",
            (json_list([job.job_id for job in jobs]),),
        )
    }
    answers: list[bool] = []
    created: list[NewJob] = []
    for job in jobs:
        is_new = job.job_id not in existing
        answers.append(is_new)
        if is_new:
            existing.add(job.job_id)
            created.append(job)
    _require_free_keys(tx, created)
    _insert_jobs(tx, created)
    return answers


def apply_update(tx: Transaction, job_id: str, update: JobUpdate) -> bool:
    """Write those fields of an update that are set; ``False`` where there is no such job."""
    changed = tx.run(
        "update stageflow_jobs set metadata = coalesce(?, metadata), result_data = coalesce(?, result_data),"
        " error_details = coalesce(?, error_details), updated_at = ? where job_id = ?",
        (_to_text(update.metadata), _to_text(update.result_data), update.error_details, tx.now, job_id),
    )
    return changed == 1


def read_jobs(tx: Transaction, job_ids: Sequence[str]) -> list[JobRecord]:
    """Return those jobs that exist, in the order asked, with their stage results hydrated."""
    rows = tx.rows(_ASKED_JOBS, (json_list(list(job_ids)),))
    found: dict[str, Row] = {row[0]: row for row in rows}
    return [
        to_job_record(found[job_id], *_read_stage_results(tx, job_id, found[job_id][4]))
        for job_id in dict.fromkeys(job_ids)
        if job_id in found
    ]


def see_job(tx: Transaction, job_id: str) -> JobRecord:
    """Return a job that exists with what can be read of it; its ``damage`` names the rest."""
    damages: list[str] = []
    row = tx.rows(_ASKED_JOBS, (json_list([job_id]),))[0]
    results: dict[str, StageResultContract] = {}
    shelved_results: dict[str, str] = {}
    try:
        results, shelved_results = _read_stage_results(tx, job_id, row[4])
    except (MalformedRowError, StageResultsInvalidError) as error:
        damages.append(str(error))
    return to_seen_job(row, results, damages, shelved_results)


def _read_stage_results(tx: Transaction, job_id: str, run: int) -> tuple[dict[str, StageResultContract], dict[str, str]]:
    """Return the results of the closed stages, and references to those that lie in the blob store."""
    closed = tx.rows(
        "select coalesce(taken_from, stage_id), stage_number, task_count, stored_result from stageflow_stages"
        " where job_id = ? and run = ? and stored_result is not null order by stage_number",
        (job_id, run),
    )
    results: dict[str, StageResultContract] = {}
    shelved_results: dict[str, str] = {}
    for stage_id, stage_number, task_count, text in closed:
        if is_reference(text):
            shelved_results[shelved_stage_result(stage_number)] = text
            continue
        rows = None
        if task_count <= HYDRATED_RESULTS:
            rows = read_task_results(tx, stage_id, first_index=0, limit=HYDRATED_RESULTS)
        try:
            results[stage_key(stage_number)] = StageResultsFormatter.from_stored(stage_number, text, rows)
        except StageResultsInvalidError as error:
            msg = f"job {job_id}: {error}; correct the row, or submit the work as another job"
            raise StageResultsInvalidError(msg) from error
    return results, shelved_results


def _require_free_keys(tx: Transaction, jobs: list[NewJob]) -> None:
    keyed = [job for job in jobs if job.idempotency_key]
    if not keyed:
        return
    taken: dict[tuple[str, str], str] = {}
    rows = tx.rows(
        "select j.job_type, j.idempotency_key, j.job_id from json_each(?) asked cross join stageflow_jobs j"
        " on j.job_type = asked.value ->> 0 and j.idempotency_key = asked.value ->> 1 and j.idempotency_key <> ''",
        (json.dumps([[job.job_type, job.idempotency_key] for job in keyed]),),
    )
    for job_type, key, job_id in rows:
        taken[job_type, key] = job_id
    for job in keyed:
        holder = taken.setdefault((job.job_type, job.idempotency_key), job.job_id)
        if holder != job.job_id:
            msg = (
                f"idempotency key '{job.idempotency_key}' of {job.job_type} belongs to job {holder}, which has other "
                f"parameters than job {job.job_id}; nothing was created: use another key, or send the same parameters"
            )
            raise IdempotencyConflictError(msg)


def _insert_jobs(tx: Transaction, jobs: list[NewJob]) -> None:
    now = tx.now
    tx.run_many(
        _INSERT_JOB,
        (
            (
                job.job_id,
                job.job_type,
                job.workflow_version,
                job.total_stages,
                job.parameters,
                _to_text(job.metadata),
                job.idempotency_key,
                job.priority,
                None if job.not_before is None else to_micros(job.not_before),
                job.first_stage.stage_number,
                None if job.deadline is None else to_micros(job.deadline),
                job.timeout_seconds,
                now,
                now,
            )
            for job in jobs
        ),
    )
    tx.run_many(INSERT_STAGE, (stage_values(job.job_id, 1, job.first_stage, now) for job in jobs))
    tx.run_many(_INSERT_LIMIT, ((job.job_id, job.max_running) for job in jobs if job.max_running is not None))
    tx.run(_INSERT_PLANS, (now, json_list([job.job_id for job in jobs])))
    if any(job.not_before is None for job in jobs):
        tx.work_ready = True


def _to_text(value: JsonObject | None) -> str | None:
    if value is None:
        return None
    return checked_json(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
