"""What verbs ask of the store in their last step, as values: so that several leases can ask in one transaction."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from stageflow.contracts.advancement import StageAdvance, StageAdvancementResult
from stageflow.contracts.job import JobClosing, JobCompletionResult
from stageflow.contracts.lease import RangeCompletion, TaskCompletionResult
from stageflow.contracts.plan import FirstLease, PlanAnswer, PlanChunk
from stageflow.repositories import Repositories

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AddTasks:
    """The last tasks of a plan, the first of which its planner wants to run."""

    chunk: PlanChunk
    wish: FirstLease


Call = AddTasks | RangeCompletion | StageAdvance | JobClosing
Answer = PlanAnswer | TaskCompletionResult | StageAdvancementResult | JobCompletionResult
Steps = Generator[Call, Any, T]
"""A verb that yields what it asks, is sent each answer or thrown the error, and returns what came of it."""


def token_of(call: Call) -> int | None:
    """Return the token of the lease under which a call is made."""
    return call.chunk.token if isinstance(call, AddTasks) else call.token


def size_of(call: Call) -> int:
    """Return about how many characters a call sends."""
    match call:
        case AddTasks(chunk=chunk):
            return sum(map(len, chunk.parameters))
        case RangeCompletion(results=results, errors=errors):
            return sum(len(text) for texts in (results, errors) for text in texts if text is not None)
        case StageAdvance(stage_result=text):
            return len(text)
        case JobClosing(stage_result=text, result_data=answer):
            return len(text or "") + len(answer or "")


class Asker:
    """Asks the store on behalf of a worker."""

    def __init__(self, repositories: Repositories, *, worker_id: str, lease_seconds: float) -> None:
        self._repositories = repositories
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds

    def ask(self, calls: Sequence[Call]) -> Sequence[Answer]:
        """Ask several calls of one kind in one transaction, and return their answers; on an error nothing was written."""
        completion = self._repositories.completion
        match calls[0]:
            case AddTasks():
                plans = [call for call in calls if isinstance(call, AddTasks)]
                return self._repositories.stages.add_tasks_and_lease(
                    [plan.chunk for plan in plans], [plan.wish for plan in plans]
                )
            case RangeCompletion():
                reports = [call for call in calls if isinstance(call, RangeCompletion)]
                return completion.complete_tasks_and_check_stages(reports, self._worker_id, self._lease_seconds)
            case StageAdvance():
                advances = [call for call in calls if isinstance(call, StageAdvance)]
                return completion.advance_job_stages(advances, self._worker_id, self._lease_seconds)
            case JobClosing():
                return completion.complete_jobs([call for call in calls if isinstance(call, JobClosing)])
