"""Where workflows are registered, and what a registered one is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import ValidationError

from stageflow.contracts.base import Contract
from stageflow.contracts.enforce import enforce_contract
from stageflow.contracts.ids import control_work_type, task_work_type
from stageflow.contracts.job import WorkflowDefinition
from stageflow.contracts.limits import TaskTypeLimit
from stageflow.contracts.partial import Combine
from stageflow.errors import UnknownWorkflowError, WorkflowDefinitionError
from stageflow.workflow.annotations import place_of_caller
from stageflow.workflow.checks import check_stages, parameters_model_of
from stageflow.workflow.combining import combine_of
from stageflow.workflow.controller import BaseController
from stageflow.workflow.declared import declared_stage, declared_stages, preceding_stage
from stageflow.workflow.overrides import is_overridden
from stageflow.workflow.task import Task


@dataclass(frozen=True, slots=True)
class Workflow:
    """A registered workflow: its definition, and the code behind it.

    Attributes:
        definition: What a store and a person need to know of it.
        controller: The one instance that serves all its jobs.
        parameters_model: The model of its job parameters.
        where: Where it was registered, for messages.
    """

    definition: WorkflowDefinition
    controller: BaseController[Any]
    parameters_model: type[Contract]
    where: str

    @property
    def job_type(self) -> str:
        """The name under which its jobs are stored."""
        return self.definition.job_type

    @property
    def version(self) -> int:
        """The author's version of it, from 1."""
        return self.definition.version

    def task(self, stage_number: int) -> Task[Any, Any]:
        """Return the task that a stage runs.

        Raises:
            WorkflowDefinitionError: There is no such stage.
        """
        return declared_stage(type(self.controller), stage_number).task

    def combine(self, stage_number: int) -> Combine | None:
        """Return the method that combines a stage's results, its answers checked; ``None`` where the stage declares none.

        Raises:
            WorkflowDefinitionError: There is no such stage.
        """
        return combine_of(self.controller, declared_stage(type(self.controller), stage_number))

    def preceding_stage(self, stage_number: int) -> int | None:
        """Return the number of the stage whose results a stage's handlers may ask for; ``None`` for one that follows none."""
        controller_class = type(self.controller)
        before = preceding_stage(controller_class, declared_stage(controller_class, stage_number))
        return None if before is None else before.definition.number

    @property
    def looks_at_task_results(self) -> bool:
        """Whether a hook of the controller's own sees a stage's result, task results and all, before the stage closes."""
        hooks = ("aggregate_stage_results", "should_advance_stage")
        return any(is_overridden(type(self.controller), BaseController, hook) for hook in hooks)

    def limits(self) -> list[TaskTypeLimit]:
        """Return what its tasks declare of how many run at once and start in a second, those without a limit included."""
        tasks = {stage.task.task_type: stage.task for stage in declared_stages(type(self.controller))}
        return [
            TaskTypeLimit(
                job_type=self.job_type,
                task_type=task_type,
                max_running=task.max_running,
                max_per_second=None if task.max_per_second is None else float(task.max_per_second),
            )
            for task_type, task in tasks.items()
        ]

    def work_types(self) -> list[str]:
        """Return all a worker must claim to carry this workflow: its planning and advancing, then its tasks."""
        tasks = [task_work_type(self.job_type, self.version, stage.task_type) for stage in self.definition.stages]
        return list(dict.fromkeys([control_work_type(self.job_type, self.version), *tasks]))


class JobRegistry:
    """The workflows that an app knows: one default registry, and others for tests and for several apps in a process."""

    _default: ClassVar["JobRegistry | None"] = None

    def __init__(self) -> None:
        self._workflows: Final[dict[tuple[str, int], Workflow]] = {}

    @classmethod
    def instance(cls) -> "JobRegistry":
        """Return the default registry, the same one every time."""
        if JobRegistry._default is None:
            JobRegistry._default = JobRegistry()
        return JobRegistry._default

    def register(self, controller_class: type[BaseController[Any]], job_type: str, version: int = 1) -> Workflow:
        """Check a controller class whole, make its instance, and keep both under a job type and version.

        Raises:
            WorkflowDefinitionError: The workflow cannot work, or the name is taken; the message names both places.
        """
        where = f"{controller_class.__module__}:{controller_class.__qualname__}, {place_of_caller()}"
        if (job_type, version) in self._workflows:
            msg = (
                f"workflow {job_type!r} version {version} of {where} is registered already, "
                f"by {self._workflows[job_type, version].where}; rename one, or raise its version"
            )
            raise WorkflowDefinitionError(msg)
        model = parameters_model_of(controller_class)
        definition = _define(controller_class, job_type, version, model, where)
        check_stages(controller_class, declared_stages(controller_class), model)
        workflow = Workflow(definition, _create(controller_class, where), model, where)
        workflow.controller.enroll(definition)
        self._workflows[job_type, version] = workflow
        return workflow

    def get(self, job_type: str, version: int) -> Workflow:
        """Return a workflow.

        Raises:
            UnknownWorkflowError: It is not registered; the message lists those that are.
        """
        if (job_type, version) not in self._workflows:
            msg = f"no workflow {job_type!r} version {version} is registered; {self._known()}"
            raise UnknownWorkflowError(msg)
        return self._workflows[job_type, version]

    @enforce_contract
    def find(self, ref: type[BaseController[Any]] | str) -> Workflow:
        """Return the newest version of the workflow with this controller class or job type.

        Raises:
            UnknownWorkflowError: There is none, or the class stands for several job types; the message lists what there is.
            ContractViolationError: It is neither a controller class nor a job type.
        """
        found = [workflow for workflow in self if ref in {workflow.job_type, type(workflow.controller)}]
        named = ref if isinstance(ref, str) else ref.__qualname__
        if not found:
            msg = f"no workflow {named!r} is registered; {self._known()}"
            raise UnknownWorkflowError(msg)
        job_types = sorted({workflow.job_type for workflow in found})
        if len(job_types) > 1:
            msg = f"{named!r} is registered as {', '.join(job_types)}; pass the job type you mean"
            raise UnknownWorkflowError(msg)
        return max(found, key=lambda workflow: workflow.version)

    def limits(self) -> list[TaskTypeLimit]:
        """Return what is declared of each task type; by its newest version, where several have it."""
        newest = {
            limit.scope: limit
            for workflow in sorted(self, key=lambda workflow: workflow.version)
            for limit in workflow.limits()
        }
        return list(newest.values())

    def workflows(self) -> list[Workflow]:
        """Return all workflows, in the order of their registration."""
        return list(self._workflows.values())

    def __iter__(self) -> Iterator[Workflow]:
        """Yield all workflows, in the order of their registration."""
        return iter(self.workflows())

    def _known(self) -> str:
        known = ", ".join(f"{job_type} version {version}" for job_type, version in sorted(self._workflows))
        return f"registered: {known}" if known else "nothing is registered: import the modules that hold @workflow classes"


def _define(
    controller_class: type[BaseController[Any]],
    job_type: str,
    version: int,
    model: type[Contract],
    where: str,
) -> WorkflowDefinition:
    stages = declared_stages(controller_class)
    if not stages:
        msg = f"{where} declares no stage; write a_stage = stage(1, …, task=…) in the class"
        raise WorkflowDefinitionError(msg)
    try:
        return WorkflowDefinition(
            job_type=job_type,
            version=version,
            stages=tuple(stage.definition for stage in stages),
            parameters_model=f"{model.__module__}:{model.__qualname__}",
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        msg = f"{where} cannot be registered: {first['loc'][0]}: {first['msg']}, got {first['input']!r}"
        raise WorkflowDefinitionError(msg) from error


def _create(controller_class: type[BaseController[Any]], where: str) -> BaseController[Any]:
    try:
        return controller_class()
    except TypeError as error:
        msg = (
            f"{where} cannot be made without arguments: {error}. Give __init__ no required parameters and leave no method "
            "abstract; what handlers need, they get from their parameters"
        )
        raise WorkflowDefinitionError(msg) from error
