"""Deadlines of jobs and stages."""

from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.damage import nearest_time
from stageflow.contracts.deadline import Overdue, OverdueEnding


class Deadlines(Part):
    """Satisfies ``stageflow.ports.DeadlineStore``."""

    def start_stage_clock(self, range_id: int, token: int, seconds: float) -> bool:
        """Let the time of a stage begin; ``False``: the plan lease was lost."""
        ((held,),) = self._database.write(query("start_stage_clock"), (range_id, token, seconds))
        return bool(held)

    def list_overdue(self, limit: int) -> list[Overdue]:
        """Return jobs that have not ended and are late, and those of which an open stage is, up to ``limit`` of each."""
        return [
            Overdue(job_id=job_id, run=run, stage_number=stage_number, deadline=nearest_time(deadline))
            for job_id, run, stage_number, deadline in self._database.read(query("list_overdue"), (limit,))
        ]

    def end_overdue(self, ending: OverdueEnding) -> bool:
        """Fail a late job as ``end_job`` does; ``False``: it has ended, is in another run, or is not late."""
        ((ended,),) = self._database.write(query("end_overdue"), (ending.job_id, ending.run, ending.error_details))
        return bool(ended)
