"""Fan-out: the tasks of a stage, chunk by chunk."""

from stageflow.backends.postgres.arrays import packed
from stageflow.backends.postgres.part import Part
from stageflow.backends.postgres.sql_text import query
from stageflow.contracts.plan import PlanChunk, PlanOutcome
from stageflow.errors import InvalidValueError


class Plans(Part):
    """Satisfies ``stageflow.ports.PlanStore``."""

    def add_tasks(self, chunk: PlanChunk) -> PlanOutcome:
        """Write a chunk of a stage's tasks and their ranges."""
        if "" in chunk.parameters:
            index = chunk.first_index + chunk.parameters.index("")
            msg = f"task {index} has an empty text as parameters; give it a JSON object"
            raise InvalidValueError(msg)
        separator, (parameters, keys) = packed(chunk.parameters, chunk.keys)
        ((outcome,),) = self._database.write(
            query("add_tasks"),
            (
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
            ),
        )
        return PlanOutcome(outcome)
