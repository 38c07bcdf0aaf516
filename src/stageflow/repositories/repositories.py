"""The repositories of one store, together."""

from dataclasses import dataclass

from stageflow.ports import Store
from stageflow.repositories.completion import StageCompletionRepository
from stageflow.repositories.deadline import DeadlineRepository
from stageflow.repositories.event import EventRepository
from stageflow.repositories.job import JobRepository
from stageflow.repositories.lease import LeaseRepository
from stageflow.repositories.limit import LimitRepository
from stageflow.repositories.schedule import ScheduleRepository
from stageflow.repositories.stage import StageRepository
from stageflow.repositories.task import TaskRepository


@dataclass(frozen=True)
class Repositories:
    """All repositories over one store; made by ``RepositoryFactory.create_repositories``."""

    store: Store
    jobs: JobRepository
    tasks: TaskRepository
    stages: StageRepository
    leases: LeaseRepository
    limits: LimitRepository
    completion: StageCompletionRepository
    deadlines: DeadlineRepository
    events: EventRepository
    schedules: ScheduleRepository

    @classmethod
    def over(cls, store: Store) -> "Repositories":
        """Return the repositories over a store."""
        return cls(
            store=store,
            jobs=JobRepository(store),
            tasks=TaskRepository(store),
            stages=StageRepository(store),
            leases=LeaseRepository(store),
            limits=LimitRepository(store),
            completion=StageCompletionRepository(store),
            deadlines=DeadlineRepository(store),
            events=EventRepository(store),
            schedules=ScheduleRepository(store),
        )
