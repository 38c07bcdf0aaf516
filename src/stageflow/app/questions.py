"""What an app tells of jobs."""

from typing import TypeVar, overload

from stageflow.app.answers import answer_of, require_answer, wait_for_end, wait_until_ended
from stageflow.app.connected import Connected
from stageflow.contracts.base import Contract
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.event import JobEvent
from stageflow.contracts.job import JobRecord, JobResult
from stageflow.insights import Explanation, JobProgress, explain_job, job_progress

M = TypeVar("M", bound=Contract)


class JobQuestions(Connected):
    """Asks about jobs: how they are, how they got there, what they answered."""

    @enforce_contract
    def job(self, job_id: str) -> JobRecord:
        """Return a job with its stage results; its ``damage`` names what of it cannot be read from the blob store.

        Raises:
            JobNotFoundError: There is none with this id.
            PayloadUnreadableError: It succeeded, and a result of it is missing from the blob store, or altered.
            PayloadsUnreachableError: A result of it is in the blob store, which does not answer; try again.
        """
        return self.repositories.jobs.require_seen_job(job_id)

    @enforce_contract
    def progress(self, job_id: str) -> JobProgress:
        """Return how far a job is."""
        return job_progress(self.repositories, self.repositories.jobs.require_job_state(job_id).job)

    @enforce_contract
    def explain(self, job_id: str) -> Explanation:
        """Return why a job is not moving, that it is, or how it ended: from effect to cause, with times and a next step.

        Raises:
            JobNotFoundError: There is none with this id.
        """
        return explain_job(self.repositories, self.registry, job_id, queue=self.queue)

    @enforce_contract
    def history(self, job_id: str, *, after: int | None = None, limit: int = 1000) -> list[JobEvent]:
        """Return what happened to a job over all its runs, oldest first; nothing is told of tasks that simply succeeded.

        Args:
            job_id: The job.
            after: The ``event_id`` of the last event of the page before.
            limit: At most so many, 1 to 1,000.

        Raises:
            JobNotFoundError: There is none with this id.
            InvalidValueError: The limit is out of range.
        """
        return self.repositories.events.list_events(job_id, after, limit)

    @enforce_contract
    def wait(self, job_id: str, *, timeout: float | None = None) -> JobResult:
        """Return how a job ended, as soon as it has; something must be working on it.

        Args:
            job_id: The job.
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Raises:
            WaitTimeoutError: It had not ended by then.
            PayloadUnreadableError: It succeeded, and a result of it is missing from the blob store, or altered.
            PayloadsUnreachableError: A result of it is in the blob store, which does not answer; ask again.
        """
        return wait_for_end(self.repositories, job_id, timeout)

    @overload
    def result(self, job_id: str, *, timeout: float | None = None) -> Contract | None: ...
    @overload
    def result(self, job_id: str, model: type[M], *, timeout: float | None = None) -> M: ...
    @enforce_contract
    def result(self, job_id: str, model: type[Contract] | None = None, *, timeout: float | None = None) -> Contract | None:
        """Return what the workflow's ``aggregate_job_results`` returned for a job, as its model.

        Args:
            job_id: The job.
            model: The model it is annotated to return, for type checkers: the answer is one of it, or an error.
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Raises:
            JobFailedError: The job failed.
            JobCancelledError: The job was cancelled.
            WaitTimeoutError: It had not ended within ``timeout`` seconds.
            InvalidValueError: The answer is not of this model.
        """
        wait_until_ended(self.repositories, job_id, timeout)
        answer = answer_of(self.registry, self.repositories, self.repositories.jobs.require_job_state(job_id).job)
        return answer if model is None else require_answer(answer, model, job_id)
