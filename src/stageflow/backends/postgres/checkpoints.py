"""What running tasks keep for their next attempt."""

from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.sql_text import query


class Checkpoints(Part):
    """Satisfies ``stageflow.ports.CheckpointStore``."""

    def save_checkpoint(self, range_id: int, token: int, task_index: int, value: str) -> bool:
        """Replace what a task keeps; ``False`` where the token no longer holds that task."""
        ((saved,),) = self._database.write(query("save_checkpoint"), (range_id, token, task_index, value))
        return bool(saved)

    def get_checkpoint(self, stage_id: int, task_index: int, generation: int) -> str | None:
        """Return what a task of this generation keeps, ``None`` where it keeps nothing."""
        rows = self._database.read(query("get_checkpoint"), (stage_id, task_index, generation))
        return str(rows[0][0]) if rows else None
