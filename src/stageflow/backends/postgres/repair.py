"""Finished stages, repaired."""

from stageflow.backends.postgres.arrays import dense_array
from stageflow.backends.postgres.jobs import Jobs
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.job import JobRecord
from stageflow.contracts.repair import StageRepair


class Repairs(Jobs):
    """Satisfies ``repair_stage`` of ``stageflow.ports.JobStore``."""

    def repair_stage(self, repair: StageRepair) -> JobRecord | None:
        """Queue an ended job whose chosen tasks run again; ``None`` where it does not exist."""
        stage = repair.stage
        ((found,),) = self._database.write(
            query("repair_stage"),
            (
                repair.job_id,
                repair.former_run,
                stage.stage_number,
                stage.name,
                stage.task_type,
                stage.fail_fast,
                stage.minimum_success_rate,
                dense_array(repair.tasks),
            ),
        )
        return self.get_jobs([repair.job_id])[0] if found else None
