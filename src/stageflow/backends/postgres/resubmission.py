"""Jobs that failed or were cancelled, run again."""

from stageflow.backends.postgres.arrays import dense_array, number_array
from stageflow.backends.postgres.jobs import Jobs
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.job import JobRecord
from stageflow.contracts.resubmission import NewRun


class Resubmissions(Jobs):
    """Satisfies ``resubmit_job`` of ``stageflow.ports.JobStore``."""

    def resubmit_job(self, new_run: NewRun) -> JobRecord | None:
        """Queue a failed or cancelled job with a run of its own; ``None`` where it does not exist."""
        stages = new_run.stages
        ((found,),) = self._database.write(
            query("resubmit_job"),
            (
                new_run.job_id,
                new_run.former_run,
                dense_array([stage.stage_number for stage in stages]),
                [stage.name for stage in stages],
                [stage.task_type for stage in stages],
                [stage.fail_fast for stage in stages],
                number_array([stage.minimum_success_rate for stage in stages]),
                dense_array([stage.group_first for stage in stages]),
                dense_array([stage.group_last for stage in stages]),
                None if new_run.deadline is None else new_run.deadline.timestamp(),
                new_run.timeout_seconds,
            ),
        )
        return self.get_jobs([new_run.job_id])[0] if found else None
