"""What the engine stores and asks, decorated once; nothing here decides what happens next."""

from stageflow.repositories.completion import StageCompletionRepository
from stageflow.repositories.deadline import DeadlineRepository
from stageflow.repositories.event import EventRepository
from stageflow.repositories.job import JobRepository
from stageflow.repositories.lease import LeaseRepository
from stageflow.repositories.limit import LimitRepository
from stageflow.repositories.repositories import Repositories
from stageflow.repositories.schedule import ScheduleRepository
from stageflow.repositories.stage import StageRepository
from stageflow.repositories.task import TaskRepository

__all__ = [
    "DeadlineRepository",
    "EventRepository",
    "JobRepository",
    "LeaseRepository",
    "LimitRepository",
    "Repositories",
    "ScheduleRepository",
    "StageCompletionRepository",
    "StageRepository",
    "TaskRepository",
]
