"""Jobs: stored and asked for."""

from datetime import datetime
from functools import partial
from typing import Final

from stageflow.contracts.base import Contract, json_object_text
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import make_job_id, validate_job_id
from stageflow.contracts.job import CreatedJobs, JobEnding, JobRecord, JobUpdate, NewJob
from stageflow.contracts.job_state import JobState
from stageflow.contracts.payload import STAGE_RESULT, shelved_stages
from stageflow.contracts.repair import StageRepair
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.stage import HYDRATED_RESULTS, NewStage, StageRecord, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus
from stageflow.errors import (
    BlobError,
    InvalidTransitionError,
    InvalidValueError,
    JobNotFoundError,
    PayloadUnreadableError,
)
from stageflow.ports import Store
from stageflow.repositories.payloads import PayloadShelf, Spared

_SUCCEEDED: Final = frozenset({JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS})
_no_update = JobUpdate()


class JobRepository:
    """Stores jobs and asks for them; every method is one transaction."""

    def __init__(self, store: Store, payloads: PayloadShelf) -> None:
        self._store = store
        self._payloads = payloads

    @enforce_contract
    def get_job(self, job_id: str) -> JobRecord | None:
        """Return a job with its stage results, or ``None`` where it does not exist.

        Raises:
            InvalidValueError: The id is malformed.
            StageResultsInvalidError: A stored stage result of the job is malformed.
        """
        found = self.get_jobs([job_id])
        return found[0] if found else None

    @enforce_contract
    def require_job(self, job_id: str) -> JobRecord:
        """Return a job with its stage results.

        Raises:
            JobNotFoundError: It does not exist.
        """
        job = self.get_job(job_id)
        if job is None:
            msg = f"there is no job {job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return job

    @enforce_contract
    def get_jobs(self, job_ids: list[str]) -> list[JobRecord]:
        """Return those jobs that exist, with their stage results.

        Raises:
            PayloadUnreadableError: Something of a job that is too large for a row is missing from the blob store, or altered.
            PayloadsUnreachableError: The blob store does not answer.
        """
        found = self._store.get_jobs([validate_job_id(job_id) for job_id in job_ids])
        return [self._loaded(job) for job in found]

    @enforce_contract
    def require_seen_job(self, job_id: str) -> JobRecord:
        """Return a job with its stage results, for whoever asks how it is: its ``damage`` names what cannot be read.

        Previews stand there in its place. Of a job that succeeded only the parameters are spared so: it is asked for its
        results.

        Raises:
            JobNotFoundError: It does not exist.
            PayloadUnreadableError: It succeeded, and a result of it is missing from the blob store, or altered.
            PayloadsUnreachableError: A result of it is in the blob store, which does not answer.
        """
        found = self._store.get_jobs([validate_job_id(job_id)])
        if not found:
            msg = f"there is no job {job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return self._seen(found[0])

    @enforce_contract
    def require_job_state(self, job_id: str) -> JobState:
        """Return a job and the stages of its present run, without the results of their tasks, and nothing from the blob store.

        Raises:
            JobNotFoundError: It does not exist.
        """
        found = self._store.get_job_states([validate_job_id(job_id)])
        if not found:
            msg = f"there is no job {job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return found[0]

    @enforce_contract
    def create_job(self, job: JobRecord) -> bool:
        """Create a queued job; ``False`` where the id exists already, and nothing changes.

        The job's first stage takes the job type as its name and task type: a job whose workflow is registered is created
        by ``submit``, which knows better ones.

        Raises:
            InvalidValueError: The job is not a new one: it is not queued, or has results.
        """
        if job.status is not JobStatus.QUEUED or job.stage != 1 or job.stage_results:
            msg = f"a job is created queued, at stage 1 and without results, got {job.status} at stage {job.stage}"
            raise InvalidValueError(msg)
        first_stage = NewStage(
            stage_number=1,
            name=job.job_type,
            task_type=job.job_type,
            group_first=1,
            group_last=1,
        )
        new_job = NewJob(
            job_id=job.job_id,
            job_type=job.job_type,
            workflow_version=job.workflow_version,
            total_stages=job.total_stages,
            parameters=self._payloads.store(
                job.job_id, json_object_text(job.parameters), f"the parameters of a job {job.job_type!r}"
            ),
            metadata=job.metadata,
            idempotency_key=job.idempotency_key,
            priority=job.priority,
            not_before=job.not_before,
            deadline=job.deadline,
            timeout_seconds=job.timeout_seconds,
            first_stage=first_stage,
        )
        return self._store.create_jobs([new_job]).created[0]

    @enforce_contract
    def create_jobs(self, jobs: list[NewJob], connection: object = None) -> CreatedJobs:
        """Create jobs with their first stages; the answer says which of them existed already.

        Args:
            jobs: The jobs, in any order.
            connection: The application's own connection with a transaction open; the jobs commit with it or not at all.

        Raises:
            IdempotencyConflictError: A key is taken by another request; nothing is created.
        """
        return self._store.create_jobs(jobs, connection=connection)

    @enforce_contract
    def create_job_from_params(self, job_type: str, parameters: Contract, total_stages: int) -> JobRecord:
        """Create a job from its validated parameters, or find the one that the same request made before."""
        now = self._store.now()
        job_id = make_job_id(job_type, parameters)
        self.create_job(
            JobRecord(
                job_id=job_id,
                job_type=job_type,
                status=JobStatus.QUEUED,
                total_stages=total_stages,
                parameters=parameters.model_dump(mode="json"),
                created_at=now,
                updated_at=now,
            )
        )
        return self.require_job(job_id)

    @enforce_contract
    def list_jobs(
        self,
        status: JobStatus | None = None,
        job_type: str | None = None,
        id_prefix: str = "",
        limit: int = 100,
        after: JobRecord | None = None,
    ) -> list[JobRecord]:
        """Return jobs, newest first, without their stage results; of a damaged one ``damage`` says what cannot be read.

        What of them is too large for a row stands there as a preview.

        Args:
            status: Only jobs with this status.
            job_type: Only jobs of this type.
            id_prefix: Only jobs whose id starts so.
            limit: At most so many, 1 to 1,000.
            after: The last job of the page before.
        """
        if not 1 <= limit <= _page_limit:
            msg = f"limit must be 1 to {_page_limit}, got {limit}; ask for the next page with after="
            raise InvalidValueError(msg)
        position: tuple[datetime, str] | None = (after.created_at, after.job_id) if after is not None else None
        return self._store.list_jobs(
            status=status,
            job_type=job_type,
            id_prefix=id_prefix,
            limit=limit,
            after=position,
        )

    @enforce_contract
    def update_job(self, job_id: str, update: JobUpdate) -> bool:
        """Change fields of a job other than its status; ``False`` where it does not exist."""
        return self._store.update_job(validate_job_id(job_id), update)

    @enforce_contract
    def update_job_status_with_validation(
        self,
        job_id: str,
        new_status: JobStatus,
        update: JobUpdate = _no_update,
    ) -> JobRecord:
        """Change a job's status as the transition table allows; the same status again changes nothing.

        A damaged job is changed like any other, and what of it cannot be read is named in the answer's ``damage``.

        Raises:
            JobNotFoundError: The job does not exist.
            InvalidTransitionError: The table forbids it; nothing changed.
        """
        try:
            job = self._store.change_job_status(validate_job_id(job_id), new_status, update)
        except InvalidTransitionError as error:
            msg = f"job {job_id}: {error}"
            raise InvalidTransitionError(msg) from error
        if job is None:
            msg = f"there is no job {job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        try:
            return self._seen(job)
        except BlobError as error:
            return _damaged(job, [str(error)])

    @enforce_contract
    def end_job(self, ending: JobEnding) -> bool:
        """Fail or cancel a job and close its waiting work; ``False`` where it had ended or the lease is lost."""
        return self._store.end_job(ending)

    @enforce_contract
    def resubmit_job(self, new_run: NewRun) -> JobRecord:
        """Queue a failed or cancelled job with a run of its own, its first stage opened in the same transaction.

        Raises:
            JobNotFoundError: The job does not exist.
            InvalidTransitionError: It has another status, or was resubmitted meanwhile; nothing changed.
        """
        job = self._store.resubmit_job(new_run)
        if job is None:
            msg = f"there is no job {new_run.job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return job

    @enforce_contract
    def repair_stage(self, repair: StageRepair) -> JobRecord:
        """Queue a job that has ended with a run of its own, in which chosen tasks of one stage run again.

        Raises:
            JobNotFoundError: The job does not exist.
            InvalidTransitionError: It has not ended, or was resubmitted or repaired meanwhile; nothing changed.
            StoreStateError: The stage cannot be repaired; nothing changed.
        """
        job = self._store.repair_stage(repair)
        if job is None:
            msg = f"there is no job {repair.job_id}; list the jobs there are with `stageflow jobs`"
            raise JobNotFoundError(msg)
        return job

    def _loaded(self, job: JobRecord) -> JobRecord:
        """Return a job with what of it lies in the blob store."""
        return self._read(job, parameters=Spared(), results=Spared())

    def _seen(self, job: JobRecord) -> JobRecord:
        """Return a job with what can be read of it; its ``damage`` names the rest."""
        parameters = Spared(BlobError)
        results = Spared() if job.status in _SUCCEEDED else Spared(PayloadUnreadableError)
        return _damaged(self._read(job, parameters=parameters, results=results), [*parameters.reasons, *results.reasons])

    def _read(self, job: JobRecord, *, parameters: Spared, results: Spared) -> JobRecord:
        shelved = shelved_stages(job.shelved)
        if shelved:
            found = dict(job.stage_results)
            for stage in self._store.list_stages(job.job_id, job.run):
                if stage.stage_number in shelved:
                    result = results.read(partial(self._stage_result, job, stage, shelved[stage.stage_number]))
                    if result is not None:
                        found[result.stage_key] = result
            left = {name: text for name, text in job.shelved.items() if name.removeprefix(STAGE_RESULT) not in found}
            ordered = {key: found[key] for key in sorted(found, key=int)}
            job = job.model_copy(update={"stage_results": ordered, "shelved": left})
        if not job.shelved and not any(each.shelved for result in job.stage_results.values() for each in result.task_results):
            return job
        return self._payloads.load_job(job, parameters=parameters, results=results)

    def _stage_result(self, job: JobRecord, stage: StageRecord, text: str) -> StageResultContract:
        number, wide = stage.stage_number, stage.task_count > HYDRATED_RESULTS
        stored = self._payloads.load(text, f"the result of stage {number} of job {job.job_id}")
        rows = self._store.list_task_results(stage.stage_id, first_index=0, limit=HYDRATED_RESULTS) if not wide else None
        return StageResultsFormatter.from_stored(number, stored, rows, most_bytes=self._payloads.options.max_bytes)


_page_limit = 1000


def _damaged(job: JobRecord, reasons: list[str]) -> JobRecord:
    """Return a job that names this damage too."""
    return job.model_copy(update={"damage": "; ".join(filter(None, (job.damage, *reasons))) or None}) if reasons else job
