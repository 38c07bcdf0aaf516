"""What an app is connected to."""

from typing import Final, TypeVar

from stageflow.contracts.base import Contract
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.telemetry import Telemetry
from stageflow.worker import WorkerOptions
from stageflow.workflow.controller import BaseController
from stageflow.workflow.registry import JobRegistry

J = TypeVar("J", bound=Contract)

WorkflowRef = type[BaseController[J]] | str
"""A controller class, which says the model of its jobs' parameters, or the job type under which it is registered."""


class Connected:
    """Registered workflows, a store and, if there is one, an external queue."""

    def __init__(self, registry: JobRegistry, repositories: Repositories, queue: Queue | None, options: WorkerOptions) -> None:
        self.registry: Final = registry
        self.repositories: Final = repositories
        self.queue: Final = queue
        self.options: Final = options
        self.telemetry: Final = Telemetry()
