"""What authors of workflows import."""

from collections.abc import Callable
from typing import Any, TypeVar

from stageflow.contracts.preview import preview
from stageflow.errors import WorkflowDefinitionError
from stageflow.workflow.annotations import place_of_caller
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry
from stageflow.workflow.stage import FreelyPlannedStage, Keyed, PlannedStage, Stage, stage
from stageflow.workflow.task import AsyncTask, SyncTask, Task, task

__all__ = [
    "AsyncTask",
    "FreelyPlannedStage",
    "Keyed",
    "PlannedStage",
    "Stage",
    "SyncTask",
    "Task",
    "stage",
    "task",
    "workflow",
]

C = TypeVar("C", bound=BaseController[Any])


def workflow(job_type: str, *, version: int = 1, registry: JobRegistry | None = None) -> Callable[[type[C]], type[C]]:
    """Register the controller class below as a workflow.

    Args:
        job_type: The name under which its jobs are stored.
        version: Raise it when old and new workers must not share jobs.
        registry: Where to register; the default registry if left out.

    Raises:
        WorkflowDefinitionError: The job type is no text, as under ``@workflow`` without parentheses; or, at the class: the
            workflow cannot work, or the name is taken.
    """
    if type(job_type) is not str:
        msg = (
            f"the job type at {place_of_caller()} must be text, but is {preview(job_type)}; "
            'write @workflow("a_name") above the controller'
        )
        raise WorkflowDefinitionError(msg)

    def decorate(controller_class: type[C]) -> type[C]:
        (registry or JobRegistry.instance()).register(controller_class, job_type, version)
        return controller_class

    return decorate
