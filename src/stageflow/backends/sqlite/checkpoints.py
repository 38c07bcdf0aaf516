"""What running tasks keep for their next attempt."""

from collections.abc import Iterable

from stageflow.backends.sqlite.connection import Transaction
from stageflow.backends.sqlite.part import StorePart
from stageflow.backends.sqlite.ranges import Work, get_leased


class SqliteCheckpoints(StorePart):
    """Keeps one value a task, under the token of its lease."""

    def save_checkpoint(self, range_id: int, token: int, task_index: int, value: str) -> bool:
        """Replace what a task keeps; ``False`` where the token no longer holds that task."""
        with self._database.transaction() as tx:
            work = get_leased(tx, range_id, token)
            if work is None or not work.is_task or not work.first <= task_index < work.last:
                return False
            tx.run(
                "insert into stageflow_checkpoints (stage_id, task_index, generation, attempt, value, saved_at)"
                " values (?, ?, ?, ?, ?, ?) on conflict (stage_id, task_index) do update set generation = excluded.generation,"
                " attempt = excluded.attempt, value = excluded.value, saved_at = excluded.saved_at",
                (work.stage_id, task_index, work.generation, work.attempt, value, tx.now),
            )
            if not work.checkpointed:
                tx.run("update stageflow_ranges set checkpointed = 1 where range_id = ?", (range_id,))
        return True

    def get_checkpoint(self, stage_id: int, task_index: int, generation: int) -> str | None:
        """Return what a task of this generation keeps, ``None`` where it keeps nothing."""
        with self._database.reading() as tx:
            row = tx.row(
                "select value from stageflow_checkpoints where stage_id = ? and task_index = ? and generation = ?",
                (stage_id, task_index, generation),
            )
        return None if row is None else row[0]


def may_have_checkpoints(work: Work) -> bool:
    """Return whether a task of a leased range may keep something: who ran before left one of these marks."""
    return bool(work.checkpointed or work.suspect or work.attempt > 1)


def forget_checkpoints(tx: Transaction, stage_id: int, indexes: Iterable[int]) -> None:
    """Delete what tasks keep that have ended."""
    tx.run_many(
        "delete from stageflow_checkpoints where stage_id = ? and task_index = ?", ((stage_id, index) for index in indexes)
    )
