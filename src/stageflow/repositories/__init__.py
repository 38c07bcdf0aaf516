"""What the engine stores and asks, decorated once; nothing here decides what happens next."""

from stageflow.repositories.completion import StageCompletionRepository
from stageflow.repositories.deadline import DeadlineRepository
from stageflow.repositories.event import EventRepository
from stageflow.repositories.job import JobRepository
from stageflow.repositories.lease import LeaseRepository
from stageflow.repositories.limit import LimitRepository
from stageflow.repositories.orphans import Orphans, find_orphans
from stageflow.repositories.payloads import PayloadShelf
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
    "Orphans",
    "PayloadShelf",
    "Repositories",
    "ScheduleRepository",
    "StageCompletionRepository",
    "StageRepository",
    "TaskRepository",
    "find_orphans",
]
