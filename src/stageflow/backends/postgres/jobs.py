"""Jobs: created in bulk, read with their stage results, changed under guard."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Final, LiteralString

from psycopg.rows import TupleRow
from pydantic import TypeAdapter

from stageflow.backends.postgres.arrays import dense_array, flag_array, number_array, packed
from stageflow.backends.postgres.inside import run_inside
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import job_from_row, seen_job_from_row, state_from_rows, task_result_from_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.base import JsonObject, checked_json
from stageflow.contracts.job import CreatedJobs, JobEnding, JobRecord, JobUpdate, NewJob
from stageflow.contracts.job_state import JobState
from stageflow.contracts.payload import is_reference, shelved_stage_result
from stageflow.contracts.stage import HYDRATED_RESULTS, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus
from stageflow.contracts.task import TaskResult
from stageflow.errors import MalformedRowError, StageResultsInvalidError

_JOB_COLUMNS: Final = 18
_object: Final[TypeAdapter[JsonObject]] = TypeAdapter(JsonObject)


class Jobs(Part):
    """Satisfies ``stageflow.ports.JobStore``."""

    def create_jobs(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> CreatedJobs:
        """Create jobs, each with its first stage and the work of planning it; ``False`` where the id exists."""
        first_places = {job.job_id: place for place, job in reversed(list(enumerate(jobs)))}
        distinct = [job for place, job in enumerate(jobs) if first_places[job.job_id] == place]
        parameters = creation(distinct)
        if connection is None:
            rows = self._database.write(query("create_jobs"), parameters)
        else:
            rows = run_inside(self._database, connection, query("create_jobs"), parameters)
        (places, created_at) = rows[0]
        created = {first_places[distinct[place - 1].job_id] for place in places}
        return CreatedJobs(created=[place in created for place in range(len(jobs))], created_at=created_at)

    def get_jobs(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return those jobs that exist, in the order asked, with their stage results hydrated."""
        return [
            job_from_row(rows[0], _stage_results(rows, task_rows), _shelved_results(rows))
            for rows, task_rows in self._read_jobs(job_ids)
        ]

    def _see_job(self, job_id: str) -> JobRecord:
        """Return a job that exists with what can be read of it; its ``damage`` names the rest."""
        damages: list[str] = []
        ((rows, task_rows),) = self._read_jobs([job_id])
        try:
            results = _stage_results(rows, task_rows)
        except (MalformedRowError, StageResultsInvalidError) as error:
            results = {}
            damages.append(str(error))
        return seen_job_from_row(rows[0], results, damages, _shelved_results(rows))

    def _read_jobs(self, job_ids: Sequence[str]) -> list[tuple[list[TupleRow], dict[int, list[TupleRow]]]]:
        """Return for each job that exists its rows, one for each stage, and those of the tasks of all narrow stages."""
        rows = self._database.read(query("get_jobs"), (list(dict.fromkeys(job_ids)),))
        narrow = [row[18] for row in rows if row[22] is not None and 0 < row[21] <= HYDRATED_RESULTS]
        task_rows: dict[int, list[TupleRow]] = {}
        if narrow:
            for row in self._database.read(query("list_stage_results"), (dense_array(narrow),)):
                task_rows.setdefault(row[0], []).append(row[1:])
        return [(list(group), task_rows) for _, group in groupby(rows, key=lambda row: row[0])]

    def get_job_states(self, job_ids: Sequence[str]) -> list[JobState]:
        """Return those jobs that exist, in the order asked, each with the stages of its present run."""
        rows = self._database.read(query("get_job_states"), (list(dict.fromkeys(job_ids)),))
        return [state_from_rows(list(group)) for _, group in groupby(rows, key=lambda row: row[0])]

    def list_jobs(
        self,
        *,
        status: JobStatus | None,
        job_type: str | None,
        id_prefix: str,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> list[JobRecord]:
        """Return jobs newest first, from after a position on; no stage results; ``damage`` says what cannot be read."""
        statement: LiteralString = query("list_jobs")
        parameters: list[object] = [limit]
        if status is not None:
            parameters.append(status.value)
            statement += f" and j.status = ${len(parameters)}"
        if job_type is not None:
            parameters.append(job_type)
            statement += f" and j.job_type = ${len(parameters)}"
        if id_prefix:
            parameters.append(id_prefix)
            statement += f" and j.job_id >= ${len(parameters)} and j.job_id < ${len(parameters)} || 'g'"
        if after is not None:
            parameters.extend(after)
            statement += f" and (j.created_at, j.job_id) < (${len(parameters) - 1}::timestamptz, ${len(parameters)})"
        statement += " order by j.created_at desc, j.job_id desc limit $1::integer"
        return [seen_job_from_row(row, {}, []) for row in self._database.read(statement, parameters)]

    def update_job(self, job_id: str, update: JobUpdate) -> bool:
        """Change a job's fields; ``False`` where there is no such job."""
        return bool(self._database.write(query("update_job"), (job_id, *_fields(update))))

    def change_job_status(self, job_id: str, new_status: JobStatus, update: JobUpdate) -> JobRecord | None:
        """Change a job's status under its row lock, guarded by the transition table; ``None`` where it does not exist."""
        ((found,),) = self._database.write(query("change_job_status"), (job_id, new_status.value, *_fields(update)))
        return self._see_job(job_id) if found else None

    def end_job(self, ending: JobEnding) -> bool:
        """Fail or cancel a job; ``False``: it had ended, or the token is stale."""
        ((ended,),) = self._database.write(
            query("end_job"),
            (
                ending.job_id,
                ending.status.value,
                ending.error_details,
                ending.range_id,
                ending.token,
                None,
                ending.stage_id,
                ending.stage_status,
                ending.stage_result,
            ),
        )
        return bool(ended)


def creation(jobs: Sequence[NewJob]) -> list[object]:
    """Return the parameters of ``create_jobs``, the separator of its packed texts first."""
    stages = [job.first_stage for job in jobs]
    separator, texts = packed(
        [job.job_id for job in jobs],
        [job.job_type for job in jobs],
        [job.parameters for job in jobs],
        [_json(job.metadata) if job.metadata else None for job in jobs],
        [job.idempotency_key for job in jobs],
        [stage.name for stage in stages],
        [stage.task_type for stage in stages],
    )
    return [
        separator,
        texts[0],
        texts[1],
        dense_array([job.workflow_version for job in jobs]),
        dense_array([job.total_stages for job in jobs]),
        texts[2],
        texts[3],
        texts[4],
        dense_array([job.priority for job in jobs]),
        number_array([None if job.not_before is None else job.not_before.timestamp() for job in jobs]),
        texts[5],
        texts[6],
        flag_array([stage.fail_fast for stage in stages]),
        number_array([stage.minimum_success_rate for stage in stages]),
        number_array([job.max_running for job in jobs]),
        _numbers_if_any([None if job.deadline is None else job.deadline.timestamp() for job in jobs]),
        _numbers_if_any([job.timeout_seconds for job in jobs]),
    ]


def _numbers_if_any(values: list[float | None]) -> str | None:
    return None if all(value is None for value in values) else number_array(values)


def _json(value: JsonObject) -> str:
    return checked_json(_object.dump_json(value).decode())


def _fields(update: JobUpdate) -> tuple[str | None, str | None, str | None]:
    return (
        None if update.metadata is None else _json(update.metadata),
        None if update.result_data is None else _json(update.result_data),
        update.error_details,
    )


def _shelved_results(rows: list[TupleRow]) -> dict[str, str]:
    stages = [row[_JOB_COLUMNS:] for row in rows]
    return {shelved_stage_result(number): text for _, number, _, _, text in stages if is_reference(text)}


def _stage_results(rows: list[TupleRow], task_rows: dict[int, list[TupleRow]]) -> dict[str, StageResultContract]:
    results: dict[str, StageResultContract] = {}
    for row in rows:
        job_id, (stage_id, number, task_type, count, text) = row[0], row[_JOB_COLUMNS:]
        if text is None or is_reference(text):
            continue
        tasks: list[TaskResult] = [
            task_result_from_row(task_row, job_id, number, task_type) for task_row in task_rows.get(stage_id, [])
        ]
        try:
            result = StageResultsFormatter.from_stored(number, text, tasks if count <= HYDRATED_RESULTS else None)
        except StageResultsInvalidError as error:
            msg = f"job {job_id}: {error}; correct the row, or submit the work as another job"
            raise StageResultsInvalidError(msg) from error
        results[result.stage_key] = result
    return results
