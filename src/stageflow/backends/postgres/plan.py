"""Fan-out: the tasks of a stage, chunk by chunk."""

from collections.abc import Sequence

from stageflow.backends.postgres.arrays import dense_array, flag_array, packed, packed_lists
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

    def add_tasks_and_lease(self, chunks: Sequence[PlanChunk], wishes: Sequence[FirstLease]) -> list[PlanAnswer]:
        """Write chunks of several stages, and lease the first tasks of each to its planner, all in one transaction."""
        rows = self._database.write(query("add_tasks_and_lease"), _parallel_columns(chunks, wishes))
        answers = {
            place: PlanAnswer(outcome=PlanOutcome(outcome), lease=None if lease[0] is None else lease_from_row(tuple(lease)))
            for place, outcome, *lease in rows
        }
        return [answers[place] for place in range(1, len(chunks) + 1)]


def _takes_all(chunk: PlanChunk, wish: FirstLease) -> bool:
    """Return whether the planner's lease will hold the whole stage, so that there is nothing to wake others for."""
    return chunk.final and chunk.first_index == 0 and chunk.range_count == 1 and len(chunk.parameters) <= wish.max_tasks


def _require_texts(chunk: PlanChunk) -> None:
    if "" in chunk.parameters:
        index = chunk.first_index + chunk.parameters.index("")
        msg = f"task {index} has an empty text as parameters; give it a JSON object"
        raise InvalidValueError(msg)


def _parallel_columns(chunks: Sequence[PlanChunk], wishes: Sequence[FirstLease]) -> list[object]:
    for chunk in chunks:
        _require_texts(chunk)
    inner, texts = packed_lists([chunk.parameters for chunk in chunks], [chunk.keys for chunk in chunks])
    outer, columns = packed(*texts, [chunk.digest for chunk in chunks], [wish.worker_id for wish in wishes])
    parameters, keys, digests, worker_ids = columns
    return [
        inner,
        outer,
        dense_array([chunk.range_id for chunk in chunks]),
        dense_array([chunk.token for chunk in chunks]),
        dense_array([chunk.stage_id for chunk in chunks]),
        dense_array([chunk.first_index for chunk in chunks]),
        parameters,
        keys,
        digests,
        flag_array([chunk.final for chunk in chunks]),
        flag_array([chunk.claimable for chunk in chunks]),
        dense_array([chunk.range_count for chunk in chunks]),
        flag_array([chunk.replace for chunk in chunks]),
        flag_array([not _takes_all(chunk, wish) for chunk, wish in zip(chunks, wishes, strict=True)]),
        worker_ids,
        dense_array([wish.max_tasks for wish in wishes]),
        dense_array([wish.lease_seconds for wish in wishes]),
    ]


def _columns(chunk: PlanChunk) -> tuple[object, ...]:
    _require_texts(chunk)
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
