"""The class that users extend: hooks that decide, and boundary methods that hand over to the engine."""

import json
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from pydantic import ValidationError

from stageflow.contracts.base import Contract, JsonObject
from stageflow.contracts.context import JobExecutionContext, StageExecutionContext
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.job import JobRecord, WorkflowDefinition
from stageflow.contracts.message import JobQueueMessage, TaskQueueMessage
from stageflow.contracts.orchestration import OrchestrationDataContract
from stageflow.contracts.preview import preview
from stageflow.contracts.processing import ProcessingResult
from stageflow.contracts.results import StageResults
from stageflow.contracts.stage import StageAggregate, StageResultContract
from stageflow.contracts.status import StageStatus
from stageflow.contracts.task import TaskDefinition
from stageflow.contracts.validated import first_fault
from stageflow.errors import ContractViolationError, OrchestrationError, UnboundControllerError, WorkflowDefinitionError
from stageflow.workflow.annotations import place_of
from stageflow.workflow.current import get_current_job
from stageflow.workflow.declared import declared_stage
from stageflow.workflow.overrides import check_overrides
from stageflow.workflow.stage import Keyed, Stage

if TYPE_CHECKING:
    from stageflow.ports import Engine

J = TypeVar("J", bound=Contract)


class BaseController(ABC, Generic[J]):
    """A workflow's decisions. ``J`` is the model of its job parameters.

    Declare stages as class attributes and their planners as methods; or override a hook, whose default is what the
    declarations say. An exception in a hook fails the job with its traceback; only a planner may be tried again, when it
    raises ``RetryableTaskError`` and its stage declares a ``planning_retry``. Hooks run in any worker, on any thread, and
    again after a crash: they decide from what they are given, and change nothing.

    One instance serves all jobs of the workflow; it is made at registration, without arguments.
    """

    _definition: WorkflowDefinition | None = None
    _bound_engine: "Engine | None" = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check that overridden hooks keep their form.

        Raises:
            WorkflowDefinitionError: One does not; the message names it and what it overrides.
        """
        super().__init_subclass__(**kwargs)
        check_overrides(cls, BaseController)

    # Hooks: what users may override.

    def validate_job_parameters(self, parameters: J) -> J:
        """Return the parameters to run the job with, after checks that its model cannot express.

        Called at submission, before the job id is made of what it returns. Raise to refuse the job.
        """
        return parameters

    def create_stage_tasks(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: J,
        previous_stage_results: dict[int, StageResults[Any]],
    ) -> Iterator[TaskDefinition[Any]]:
        """Yield the tasks of a stage; by default, those of the stage's planner.

        Read lazily and stored in chunks, and read again from the start after a crash: the same arguments must give the
        same tasks in the same order, else plan the stage with ``plan_atomically=True``.

        Args:
            stage_number: The stage to plan.
            job_id: The job.
            job_parameters: What the job was submitted with.
            previous_stage_results: The results of every earlier stage that is closed and was not skipped, by number.

        Returns:
            Task definitions without ``task_index``: the engine numbers them.
        """
        stage = declared_stage(type(self), stage_number)
        if stage.planner is None:
            msg = (
                f"stage {stage_number} {stage.attribute} has no planner and was given no tasks by an orchestration; "
                "return CREATE_TASKS from the stage before, or give it a planner"
            )
            raise OrchestrationError(msg)
        job = self._job_context(job_id, job_parameters)
        planner = self._method(stage.planner)
        planned = planner(job, *_results_for_planner(stage, previous_stage_results))
        if not isinstance(planned, Iterable):
            raise _violation(planner, "Iterable", planned, path="return value")
        return _define(stage, job, planned, planner)

    def create_tasks_from_orchestration(
        self,
        stage_number: int,
        job_id: str,
        job_parameters: J,
        orchestration: OrchestrationDataContract,
    ) -> Iterator[TaskDefinition[Any]]:
        """Yield the tasks that a ``CREATE_TASKS`` of the stage before stands for; by default, one for each item.

        The parameters of a task are ``next_stage_parameters`` and the item, put together.

        Raises:
            OrchestrationError: An item and ``next_stage_parameters`` share a key, or together are not the stage's
                parameter model; the message names the item and the field.
        """
        stage = declared_stage(type(self), stage_number)
        job = self._job_context(job_id, job_parameters)
        return _define(stage, job, _parameters_of_items(stage, orchestration), self.create_tasks_from_orchestration)

    @enforce_contract(
        params={"job": JobExecutionContext, "stage": StageExecutionContext, "results": StageResults},
        returns=StageAggregate,
    )
    def aggregate_stage_results(
        self,
        job: JobExecutionContext[J],
        stage: StageExecutionContext,
        results: StageResults[Any],
    ) -> StageAggregate:
        """Return what is added to a closed stage's result; by default, what the stage's declared methods return.

        Called exactly once for each stage result that is stored, and perhaps before, by a worker that died over it.
        """
        declared = declared_stage(type(self), stage.stage_number)
        metadata: JsonObject = {}
        if declared.aggregator is not None:
            aggregator = self._method(declared.aggregator)
            summary = aggregator(job, results)
            if not isinstance(summary, Contract):
                raise _violation(aggregator, "Contract", summary, path="return value")
            metadata = summary.model_dump(mode="json")
        if declared.orchestrator is None:
            return StageAggregate(metadata=metadata)
        orchestrator = self._method(declared.orchestrator)
        orchestration = orchestrator(job, results)
        if orchestration is not None and not isinstance(orchestration, OrchestrationDataContract):
            raise _violation(orchestrator, "OrchestrationDataContract | None", orchestration, path="return value")
        return StageAggregate(metadata=metadata, orchestration=orchestration)

    @enforce_contract(params={"job": JobExecutionContext, "stage": StageExecutionContext}, returns=bool)
    def should_advance_stage(self, job: JobExecutionContext[J], stage: StageExecutionContext) -> bool:
        """Return whether the job goes on after a closed stage; ``False`` fails the job, it never means "wait".

        By default the stage's declared ``should_advance`` says it, else the verdict of its failure policy.
        """
        declared = declared_stage(type(self), stage.stage_number)
        if declared.judge is None:
            return stage.result.status is not StageStatus.FAILED
        judge = self._method(declared.judge)
        verdict = judge(job, stage)
        if not isinstance(verdict, bool):
            raise _violation(judge, "bool", verdict, path="return value")
        return verdict

    def aggregate_job_results(
        self,
        job: JobExecutionContext[J],  # noqa: ARG002  for those who override it
        stage_results: dict[int, StageResults[Any]],  # noqa: ARG002  for those who override it
    ) -> Contract | None:
        """Return the answer of a job whose stages are all closed, or nothing.

        Args:
            job: The job.
            stage_results: The results of every stage that was not skipped, by number; ``self.a_stage.of(stage_results)``
                gives those of a declared stage, typed.
        """
        return None

    # Boundary methods: what a serverless host calls with one message. All logic is the engine's.

    @final
    @enforce_contract
    def process_job_queue_message(self, message: JobQueueMessage) -> ProcessingResult:
        """Plan or advance the stage that the message names.

        Raises:
            UnboundControllerError: No app has bound this controller.
        """
        return self._engine.process_job_queue_message(message)

    @final
    @enforce_contract
    def process_task_queue_message(self, message: TaskQueueMessage) -> ProcessingResult:
        """Run the whole range of tasks that the message names.

        Raises:
            UnboundControllerError: No app has bound this controller.
        """
        return self._engine.process_task_queue_message(message)

    @final
    @enforce_contract
    def process_job_stage(self, job: JobRecord, stage_number: int) -> ProcessingResult:
        """Plan or advance one stage of a job, whichever is due.

        Raises:
            UnboundControllerError: No app has bound this controller.
        """
        return self._engine.process_job_stage(job, stage_number)

    @final
    @enforce_contract
    def _handle_stage_completion(self, job_id: str, stage_number: int) -> ProcessingResult:
        return self._engine.handle_stage_completion(job_id, stage_number)

    @final
    @enforce_contract
    def _validate_and_get_stage_results(self, job: JobRecord, stage: int) -> StageResultContract:
        return self._engine.stage_result(job, stage)

    # Set once each: by the registry, and by the app.

    @property
    def definition(self) -> WorkflowDefinition:
        """The workflow under which this controller is registered.

        Raises:
            WorkflowDefinitionError: It is not registered.
        """
        if self._definition is None:
            name = type(self).__qualname__
            msg = f"{name} is not registered; put @workflow(…) above it, and use the instance that the registry made"
            raise WorkflowDefinitionError(msg)
        return self._definition

    def enroll(self, definition: WorkflowDefinition) -> None:
        """Take the definition under which the registry keeps this controller."""
        self._definition = definition

    def bind(self, engine: "Engine") -> None:
        """Take the engine to which the boundary methods hand over; a second app replaces the first's."""
        self._bound_engine = engine

    @property
    def _engine(self) -> "Engine":
        if self._bound_engine is None:
            name = type(self).__qualname__
            msg = f"{name} is bound to no app; create Stageflow(…) with its registry before you pass messages to it"
            raise UnboundControllerError(msg)
        return self._bound_engine

    def _method(self, declared: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method of this name, so that a subclass can override a declared one."""
        method: Callable[..., Any] = getattr(self, declared.__name__)
        return method

    def _job_context(self, job_id: str, parameters: J) -> JobExecutionContext[J]:
        """Return the engine's context of the job; outside of an engine, one that knows of no stage results."""
        current = get_current_job(job_id)
        if current is None:
            return JobExecutionContext(
                job_id=job_id,
                job_type=self.definition.job_type,
                total_stages=self.definition.total_stages,
                parameters=parameters,
            )
        if current.parameters is parameters:
            return current
        return JobExecutionContext(
            job_id=job_id,
            job_type=current.job_type,
            run=current.run,
            total_stages=current.total_stages,
            parameters=parameters,
            stage_results=current.stage_results,
        )


def _define(
    stage: Stage[Any, Any],
    job: JobExecutionContext[Any],
    planned: Iterable[object],
    planner: Callable[..., Any],
) -> Iterator[TaskDefinition[Any]]:
    model = stage.task.parameter_model
    fields: dict[str, object] = {
        "job_id": job.job_id,
        "job_type": job.job_type,
        "task_type": stage.task.task_type,
        "stage_number": stage.definition.number,
    }
    for index, item in enumerate(planned):
        key, parameters = (item.key, item.parameters) if isinstance(item, Keyed) else (None, item)
        if type(parameters) is not model:
            raise _violation(planner, model.__name__, parameters, path=f"yielded[{index}]")
        fields["key"], fields["parameters"] = key, parameters
        yield TaskDefinition.from_fields(fields)


def _results_for_planner(
    stage: Stage[Any, Any],
    previous: dict[int, StageResults[Any]],
) -> Iterator[StageResults[Any] | None]:
    for earlier in stage.after:
        number = earlier.definition.number
        if number in previous:
            yield previous[number]
        elif stage.definition.may_skip:
            yield None
        else:
            msg = (
                f"stage {stage.definition.number} {stage.attribute} takes the results of stage {number}, which was skipped; "
                "declare may_skip=True and let the planner take None, or do not skip it"
            )
            raise OrchestrationError(msg)


def _parameters_of_items(stage: Stage[Any, Any], orchestration: OrchestrationDataContract) -> Iterator[Contract]:
    shared, model = orchestration.next_stage_parameters, stage.task.parameter_model
    for index, item in enumerate(orchestration.items):
        twice = sorted(shared.keys() & item.keys())
        if twice:
            number = stage.definition.number
            msg = f"item {index} for stage {number} and next_stage_parameters both hold {twice}; keep each in one"
            raise OrchestrationError(msg)
        try:
            yield model.model_validate_json(json.dumps({**shared, **item}))
        except ValidationError as error:
            msg = f"item {index} for stage {stage.definition.number} is no {model.__name__}: {first_fault(error)}"
            raise OrchestrationError(msg) from error


def _violation(function: Callable[..., Any], expected: str, value: object, *, path: str) -> ContractViolationError:
    actual = type(value).__name__
    return ContractViolationError(
        f"{place_of(function)}: {path} must be {expected}, got {actual}: {preview(value)}. "
        "Correct the method or its stage's declaration.",
        function=function.__qualname__,
        parameter=None,
        expected=expected,
        actual=actual,
        path=path,
        preview=preview(value),
    )
