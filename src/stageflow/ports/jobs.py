"""Jobs, stored."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from stageflow.contracts.job import CreatedJobs, JobEnding, JobRecord, JobUpdate, NewJob
from stageflow.contracts.job_state import JobState
from stageflow.contracts.repair import StageRepair
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.status import JobStatus


class JobStore(Protocol):
    """Jobs."""

    def create_jobs(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> CreatedJobs:
        """Create jobs, each with its first stage and the work of planning it; ``False`` where the id exists.

        Raises:
            IdempotencyConflictError: An idempotency key of this job type is taken by another job id; nothing is created.

        Args:
            connection: The application's own connection, with a transaction open: the jobs commit with it or not at all.
        """
        ...

    def get_jobs(self, job_ids: Sequence[str]) -> list[JobRecord]:
        """Return those jobs that exist, with their stage results hydrated."""
        ...

    def get_job_states(self, job_ids: Sequence[str]) -> list[JobState]:
        """Return those jobs that exist, in the order asked, each with the stages of its present run."""
        ...

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
        ...

    def update_job(self, job_id: str, update: JobUpdate) -> bool:
        """Change a job's fields; ``False`` where there is no such job."""
        ...

    def change_job_status(self, job_id: str, new_status: JobStatus, update: JobUpdate) -> JobRecord | None:
        """Change a job's status under its row lock, guarded by the transition table; ``None`` where it does not exist.

        Pausing and resuming hold and open the job's ranges. A job that becomes terminal has its waiting work closed. A damaged
        job is changed like any other, and what of it cannot be read is named in the answer's ``damage``.

        Raises:
            InvalidTransitionError: The table forbids it, or the job has ended; nothing changed.
        """
        ...

    def resubmit_job(self, new_run: NewRun) -> JobRecord | None:
        """Queue a failed or cancelled job with run + 1, its stages opened in the same transaction; ``None``: no such job.

        The former run stays as it ended: whatever of it is still leased or ready is treated as work of a job that has ended,
        and may touch nothing of the new run.

        Raises:
            InvalidTransitionError: The job has another status, or is in another run; nothing changed.
            StoreStateError: A stage that is to be taken over did not complete; nothing changed.
        """
        ...

    def repair_stage(self, repair: StageRepair) -> JobRecord | None:
        """Queue a job that has ended with run + 1, in which chosen tasks of one stage are claimable; ``None``: no such job.

        The stages before and beside that one are taken over, its other tasks keep their results, and the chosen ones get theirs
        in the stage's next generation. Stages after it are opened when it is closed. All in one transaction; the former run
        stays as it ended.

        Raises:
            InvalidTransitionError: The job has not ended, or is in another run; nothing changed.
            StoreStateError: The stage has no result in that run or no such tasks, or a stage that is to be taken over did not
                complete; nothing changed.
        """
        ...

    def end_job(self, ending: JobEnding) -> bool:
        """Fail or cancel a job, close its waiting work, and store the closing stage's result.

        ``False``: it had ended, or the token is stale.
        """
        ...
