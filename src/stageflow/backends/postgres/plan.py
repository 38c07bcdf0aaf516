"""Fan-out: the tasks of a stage, chunk by chunk."""

from stageflow.backends.postgres.arrays import packed
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.rows import lease_from_row
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk, PlanOutcome
from stageflow.errors import InvalidValueError


class Plans(Part):
    """Satisfies ``stageflow.ports.PlanStore``."""

    def add_tasks(self, chunk: PlanChunk) -> PlanOutcome:
        """Write a chunk of a stage's tasks and their ranges."""
        ((outcome,),) = self._database.write(query("add_tasks"), _columns(chunk))
        return PlanOutcome(outcome)

    def add_tasks_and_lease(self, chunk: PlanChunk, wish: FirstLease) -> PlanAnswer:
        """Write a chunk, and lease the first of its tasks to its planner in the same transaction."""
        ((outcome, *lease),) = self._database.write(
            query("add_tasks_and_lease"),
            (*_columns(chunk), wish.worker_id, wish.max_tasks, wish.lease_seconds, not _takes_all(chunk, wish)),
        )
        return PlanAnswer(
            outcome=PlanOutcome(outcome),
            lease=None if lease[0] is None else lease_from_row(tuple(lease)),
        )


def _takes_all(chunk: PlanChunk, wish: FirstLease) -> bool:
    """Return whether the planner's lease will hold the whole stage, so that there is nothing to wake others for."""
    return chunk.final and chunk.first_index == 0 and chunk.range_count == 1 and len(chunk.parameters) <= wish.max_tasks


def _columns(chunk: PlanChunk) -> tuple[object, ...]:
    if "" in chunk.parameters:
        index = chunk.first_index + chunk.parameters.index("")
        msg = f"task {index} has an empty text as parameters; give it a JSON object"
        raise InvalidValueError(msg)
    separator, (parameters, keys) = packed(chunk.parameters, chunk.keys)
    return (
        separator,
        chunk.range_id,
        chunk.token,
        chunk.stage_id,
        chunk.first_index,
        parameters,
        keys,
        chunk.digest,
        chunk.final,
        chunk.claimable,
        chunk.range_count,
        chunk.replace,
    )
