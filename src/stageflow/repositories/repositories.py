"""The repositories of one store, together."""

from dataclasses import dataclass

from stageflow.ports import Store
from stageflow.repositories.completion import StageCompletionRepository
from stageflow.repositories.deadline import DeadlineRepository
from stageflow.repositories.event import EventRepository
from stageflow.repositories.job import JobRepository
from stageflow.repositories.lease import LeaseRepository
from stageflow.repositories.limit import LimitRepository
from stageflow.repositories.payloads import PayloadShelf
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
    payloads: PayloadShelf

    @classmethod
    def over(cls, store: Store, payloads: PayloadShelf | None = None) -> "Repositories":
        """Return the repositories over a store, and where its payloads go that are too large for a row: nowhere if not said."""
        shelf = payloads if payloads is not None else PayloadShelf(None)
        return cls(
            store=store,
            jobs=JobRepository(store, shelf),
            tasks=TaskRepository(store, shelf),
            stages=StageRepository(store),
            leases=LeaseRepository(store),
            limits=LimitRepository(store),
            deadlines=DeadlineRepository(store),
            events=EventRepository(store),
            schedules=ScheduleRepository(store),
            completion=StageCompletionRepository(store, shelf),
            payloads=shelf,
        )
