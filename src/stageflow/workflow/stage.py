"""A stage as an author declares it on a controller: what it runs, what it follows, and who plans and closes it."""

from collections.abc import Callable, Iterable
from typing import Any, Concatenate, Final, Generic, Literal, TypeVar, TypeVarTuple, cast, overload

from pydantic import Field, SerializeAsAny, ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.results import StageResults
from stageflow.contracts.retry import NO_RETRY, RetryPolicy
from stageflow.contracts.stage import FailurePolicy, StageDefinition
from stageflow.errors import StageResultsMissingError, WorkflowDefinitionError
from stageflow.workflow.annotations import place_of, place_of_caller
from stageflow.workflow.task import Task

P = TypeVar("P", bound=Contract)
R = TypeVar("R", bound=Contract | None)
J = TypeVar("J", bound=Contract)
M = TypeVar("M", bound=Contract)
V1 = TypeVar("V1", bound=Contract | None)
V2 = TypeVar("V2", bound=Contract | None)
V3 = TypeVar("V3", bound=Contract | None)
C = TypeVar("C")
Verdict = TypeVar("Verdict", bound=Callable[[Any, Any, StageExecutionContext], bool])
Orchestration = TypeVar("Orchestration", bound=OrchestrationDataContract | None)
Previous = TypeVarTuple("Previous")

MOST_TYPED_RESULTS: Final = 3
_ALL_MUST_SUCCEED: Final = FailurePolicy()


class Keyed(Contract, Generic[P]):
    """Task parameters with a name for people, which a planner may yield in their place.

    Attributes:
        key: Unique in the stage, such as ``"12/654/1583"``.
    """

    parameters: SerializeAsAny[P]
    key: str = Field(min_length=1, max_length=500)


class Stage(Generic[P, R]):
    """A declared stage; a class attribute of a controller.

    Attributes:
        definition: What the declaration says, as a contract.
        task: The task that it runs.
        after: The stages whose results its planner takes.
        where: ``file:line`` of the declaration, for messages.
        planner: The method that plans it, if one does; likewise ``combiner``, ``aggregator``, ``orchestrator`` and ``judge``.
    """

    def __init__(
        self,
        definition: StageDefinition,
        task: Task[P, R],
        after: "tuple[Stage[Any, Any], ...]",
        where: str,
    ) -> None:
        self.definition: Final = definition
        self.task: Final = task
        self.after: Final = after
        self.where: Final = where
        self.attribute = "?"
        self.planner: Callable[..., Iterable[Any]] | None = None
        self.combiner: Callable[..., Contract] | None = None
        self.aggregator: Callable[..., Contract] | None = None
        self.orchestrator: Callable[..., OrchestrationDataContract | None] | None = None
        self.judge: Callable[..., bool] | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name of the attribute, for messages."""
        self.attribute = f"{owner.__qualname__}.{name}"

    def __repr__(self) -> str:
        """Return the number, the attribute and where the stage is declared."""
        return f"<stage {self.definition.number} {self.attribute} ({self.where})>"

    def combine(self: "Stage[P, M]", method: Callable[[C, M, M], M]) -> Callable[[C, M, M], M]:
        """Declare the method that combines two neighbouring results into one; ``results.combined()`` gives that of all.

        Workers call it while tasks finish, so that whoever closes the stage need not read every result. It must be pure and
        associative, ``add(add(a, b), c) == add(a, add(b, c))``; it need not commute: the left one is of lower indexes.
        """
        self._refuse_second("combine", self.combiner, method)
        self.combiner = method
        return method

    def aggregate(
        self,
        method: Callable[[C, JobExecutionContext[J], StageResults[R]], M],
    ) -> Callable[[C, JobExecutionContext[J], StageResults[R]], M]:
        """Declare the method that turns the stage's results into the metadata of its stage result."""
        self._refuse_second("aggregate", self.aggregator, method)
        self.aggregator = method
        return method

    def orchestrate(
        self,
        method: Callable[[C, JobExecutionContext[J], StageResults[R]], Orchestration],
    ) -> Callable[[C, JobExecutionContext[J], StageResults[R]], Orchestration]:
        """Declare the method that decides, from the stage's results, what follows the stage."""
        self._refuse_second("orchestrate", self.orchestrator, method)
        self.orchestrator = method
        return method

    def should_advance(self, method: Verdict) -> Verdict:
        """Declare the method that says whether the job goes on after the stage; it overrules the failure policy."""
        self._refuse_second("should_advance", self.judge, method)
        self.judge = method
        return method

    def of(self, stage_results: dict[int, StageResults[Any]]) -> StageResults[R]:
        """Return this stage's results out of those of all closed stages.

        Raises:
            StageResultsMissingError: The stage was skipped or is not closed; the message lists the stages there are.
        """
        number = self.definition.number
        if number not in stage_results:
            there = ", ".join(str(other) for other in sorted(stage_results)) or "none"
            msg = f"stage {number} ({self.definition.name}) has no results, it was skipped or is not closed; there are: {there}"
            raise StageResultsMissingError(msg)
        return cast("StageResults[R]", stage_results[number])

    def _set_planner(self, method: Callable[..., Iterable[Any]]) -> None:
        self._refuse_second("plan", self.planner, method)
        self.planner = method

    def _refuse_second(self, decorator: str, first: Callable[..., Any] | None, second: Callable[..., Any]) -> None:
        if first is not None:
            msg = (
                f"stage {self.definition.number} {self.attribute} has two methods under @….{decorator}: {place_of(first)} and "
                f"{place_of(second)}. Keep one; a subclass overrides the first by a method of the same name, undecorated."
            )
            raise WorkflowDefinitionError(msg)


class PlannedStage(Stage[P, R], Generic[P, R, *Previous]):
    """A stage whose planner's parameters are known: the job, and one parameter for each stage it follows."""

    @overload
    def plan(
        self,
        method: Callable[[C, JobExecutionContext[J], *Previous], Iterable[P]],
    ) -> Callable[[C, JobExecutionContext[J], *Previous], Iterable[P]]: ...
    @overload
    def plan(
        self,
        method: Callable[[C, JobExecutionContext[J], *Previous], Iterable[Keyed[P]]],
    ) -> Callable[[C, JobExecutionContext[J], *Previous], Iterable[Keyed[P]]]: ...
    def plan(
        self,
        method: Callable[[C, JobExecutionContext[J], *Previous], Iterable[Any]],
    ) -> Callable[[C, JobExecutionContext[J], *Previous], Iterable[Any]]:
        """Declare the method that yields the parameters of the stage's tasks, plain or each with a key."""
        self._set_planner(method)
        return method


class FreelyPlannedStage(Stage[P, R]):
    """A stage that follows more than three: a type checker no longer compares its planner's parameters, registration does."""

    @overload
    def plan(
        self,
        method: Callable[Concatenate[C, JobExecutionContext[J], ...], Iterable[P]],
    ) -> Callable[Concatenate[C, JobExecutionContext[J], ...], Iterable[P]]: ...
    @overload
    def plan(
        self,
        method: Callable[Concatenate[C, JobExecutionContext[J], ...], Iterable[Keyed[P]]],
    ) -> Callable[Concatenate[C, JobExecutionContext[J], ...], Iterable[Keyed[P]]]: ...
    def plan(
        self,
        method: Callable[Concatenate[C, JobExecutionContext[J], ...], Iterable[Any]],
    ) -> Callable[Concatenate[C, JobExecutionContext[J], ...], Iterable[Any]]:
        """Declare the method that yields the parameters of the stage's tasks, plain or each with a key."""
        self._set_planner(method)
        return method


@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: Stage[Any, V1],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: Literal[False] = False,
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, StageResults[V1]]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: Stage[Any, V1],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: Literal[True],
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, StageResults[V1] | None]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: tuple[Stage[Any, V1], Stage[Any, V2]],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: Literal[False] = False,
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, StageResults[V1], StageResults[V2]]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: tuple[Stage[Any, V1], Stage[Any, V2]],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: Literal[True],
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, StageResults[V1] | None, StageResults[V2] | None]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: tuple[Stage[Any, V1], Stage[Any, V2], Stage[Any, V3]],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: Literal[False] = False,
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, StageResults[V1], StageResults[V2], StageResults[V3]]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: tuple[Stage[Any, V1], Stage[Any, V2], Stage[Any, V3]],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: Literal[True],
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, StageResults[V1] | None, StageResults[V2] | None, StageResults[V3] | None]: ...
@overload
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: tuple[Stage[Any, Any], ...],
    policy: FailurePolicy = ...,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = ...,
    may_skip: bool = False,
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> FreelyPlannedStage[P, R]: ...
def stage(
    number: int,
    name: str,
    *,
    task: Task[P, R],
    after: Stage[Any, Any] | tuple[Stage[Any, Any], ...] = (),
    policy: FailurePolicy = _ALL_MUST_SUCCEED,
    retry: RetryPolicy | None = None,
    planning_retry: RetryPolicy = NO_RETRY,
    may_skip: bool = False,
    plan_atomically: bool = False,
    timeout_seconds: float | None = None,
) -> PlannedStage[P, R, *tuple[Any, ...]] | FreelyPlannedStage[P, R]:
    """Declare a stage, as a class attribute of a controller.

    Args:
        number: Place in the workflow, from 1, without gaps.
        name: For people.
        task: What each of its tasks runs.
        after: The earlier stages whose results its planner takes: none, one, or several in the order of its parameters.
        policy: When failed tasks let the job go on; all must succeed by default.
        retry: Policy for its tasks; by default that of the task, else of :class:`RetryPolicy`.
        planning_retry: Policy for its planner, when that raises ``RetryableTaskError``.
        may_skip: Its planner takes ``None`` for a stage of ``after`` that was skipped.
        plan_atomically: Its tasks may be claimed only when all are planned; for planners that are not deterministic.
        timeout_seconds: How long the stage may take, from the begin of its planning on; then the job fails. Paused time counts.

    Raises:
        WorkflowDefinitionError: A value is not what it must be.
    """
    where = place_of_caller()
    previous = after if isinstance(after, tuple) else (after,)
    if not isinstance(task, Task) or not all(isinstance(earlier, Stage) for earlier in previous):
        msg = f"stage {number!r} at {where} needs a function under @task(…) as task, and stages as after"
        raise WorkflowDefinitionError(msg)
    if may_skip and not previous:
        msg = f"stage {number!r} at {where} says may_skip but follows no stage; name one with after=, or drop may_skip"
        raise WorkflowDefinitionError(msg)
    try:
        definition = StageDefinition(
            number=number,
            name=name,
            task_type=task.task_type,
            after=tuple(earlier.definition.number for earlier in previous),
            policy=policy,
            retry=retry or task.retry or RetryPolicy(),
            planning_retry=planning_retry,
            may_skip=may_skip,
            plan_atomically=plan_atomically,
            timeout_seconds=timeout_seconds,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        msg = f"stage {number!r} at {where} cannot be: {field}: {first['msg']}, got {first['input']!r}"
        raise WorkflowDefinitionError(msg) from error
    if len(previous) <= MOST_TYPED_RESULTS:
        return PlannedStage(definition, task, previous, where)
    return FreelyPlannedStage(definition, task, previous, where)
