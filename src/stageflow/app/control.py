"""An operator's hand on jobs."""

from collections.abc import Sequence
from datetime import datetime

from stageflow.app.connected import Connected
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.job import JobRecord
from stageflow.contracts.repair import Repair
from stageflow.contracts.resubmission import Resubmission
from stageflow.contracts.submission import SubmitOptions
from stageflow.engine.control import pause_job, resume_job
from stageflow.engine.repair import repair_stage
from stageflow.engine.resubmit import resubmit_job
from stageflow.engine.submit import cancel_job


class JobControl(Connected):
    """Stops jobs, lets them go on, and runs them again."""

    @enforce_contract
    def cancel(self, job_id: str, *, reason: str = "cancelled by an operator") -> JobRecord:
        """Cancel a job at once: nothing of it starts any more, and running handlers are told."""
        return cancel_job(job_id, reason, self.repositories, self.telemetry)

    @enforce_contract
    def pause(self, job_id: str) -> JobRecord:
        """Pause a job: nothing of it starts any more; running handlers end, and their results are recorded.

        Raises:
            InvalidTransitionError: It has ended; the message says what is allowed, and nothing changed.
        """
        return pause_job(job_id, self.repositories, self.telemetry)

    @enforce_contract
    def resume(self, job_id: str) -> JobRecord:
        """Let a paused job go on where it stood.

        Raises:
            InvalidTransitionError: It is not paused; the message says what is allowed, and nothing changed.
        """
        return resume_job(job_id, self.repositories, self.telemetry)

    @enforce_contract
    def resubmit(
        self,
        job_id: str,
        *,
        from_stage: int = 1,
        dry_run: bool = False,
        deadline: datetime | None = None,
        timeout_seconds: float | None = None,
    ) -> Resubmission:
        """Run a failed or cancelled job again under the same id, as its next run; the former run stays readable.

        Args:
            job_id: The job.
            from_stage: The first stage to run again; the results of those before it are taken over, not computed again.
            dry_run: Change nothing, only say what would happen.
            deadline: Of the new run; that of the former one does not count any more.
            timeout_seconds: Of the new run, from its start on; that of the former one when left out.

        Raises:
            InvalidTransitionError: It has another status; the message says what is allowed, and nothing changed.
            InvalidValueError: It cannot go on from that stage; the message names those it can.
            UnknownWorkflowError: Its workflow is not registered.
        """
        options = SubmitOptions.checked("resubmit", deadline=deadline, timeout_seconds=timeout_seconds)
        return resubmit_job(
            job_id,
            self.registry,
            self.repositories,
            self.telemetry,
            from_stage=from_stage,
            dry_run=dry_run,
            options=options,
        )

    @enforce_contract
    def repair(self, job_id: str, stage_number: int, *, tasks: Sequence[int] | None = None, dry_run: bool = False) -> Repair:
        """Run chosen tasks of a finished stage again, and all stages after it, as the next run of a job that has ended.

        Args:
            job_id: The job.
            stage_number: The stage; it is aggregated again, and what follows it is planned again.
            tasks: Indexes of its tasks; ``None`` for those that failed, and those that were skipped because of it.
            dry_run: Change nothing, only say what would happen.

        Raises:
            InvalidTransitionError: It has not ended; the message says what is allowed, and nothing changed.
            InvalidValueError: The stage cannot be repaired, or has no such tasks; the message names what can be.
            UnknownWorkflowError: Its workflow is not registered.
        """
        return repair_stage(
            job_id, stage_number, self.registry, self.repositories, self.telemetry, tasks=tasks, dry_run=dry_run
        )
