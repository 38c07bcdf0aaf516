"""What running tasks keep for their next attempt."""

from typing import Protocol


class CheckpointStore(Protocol):
    """What running tasks keep for their next attempt: one value a task, deleted with the write of its result."""

    def save_checkpoint(self, range_id: int, token: int, task_index: int, value: str) -> bool:
        """Replace what a task keeps; ``False`` where the token no longer holds that task, and nothing is written."""
        ...

    def get_checkpoint(self, stage_id: int, task_index: int, generation: int) -> str | None:
        """Return what a task of this generation keeps, ``None`` where it keeps nothing."""
        ...
