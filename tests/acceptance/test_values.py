"""What travels through a job: values come back as they were, and everybody knows which task is whose."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    UtcDatetime,
    stage,
    task,
    workflow,
)
from stageflow.testing import drain_work

registry = JobRegistry()


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each kind of store, that no worker works on."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    with Stageflow(url, registry=registry) as made:
        made.migrate()
        yield made


def ended(app: Stageflow, parameters: "Moment") -> str:
    """Run a job to its end and return its id."""
    job_id = app.submit(Around, parameters, new_run=True).job.job_id
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED
    return job_id


class Colour(StrEnum):
    """A value with a name."""

    RED = "red"


class Moment(Contract):
    """A value of each kind that JSON has no type for."""

    at: UtcDatetime
    colour: Colour
    numbers: tuple[float, ...]


class Identity(Contract):
    """What a handler was told of its task."""

    moment: Moment
    job_id: str
    job_type: str
    run: int
    stage_number: int
    task_index: int
    task_type: str
    task_id: str
    attempt: int
    worker_id: str


@task("look_around")
def look_around(parameters: Moment, context: TaskExecutionContext) -> Identity:
    """Return all that is known here."""
    assert type(context) is TaskExecutionContext
    assert type(parameters.colour) is Colour
    names = ("job_id", "job_type", "run", "stage_number", "task_index", "task_type", "task_id", "attempt", "worker_id")
    return Identity(moment=parameters, **{name: getattr(context, name) for name in names})


@workflow("around", registry=registry)
class Around(BaseController[Moment]):
    """One stage of two equal tasks."""

    looks = stage(1, "look", task=look_around)

    @looks.plan
    def plan_looks(self, job: JobExecutionContext[Moment]) -> Iterator[Moment]:
        """Plan the job's parameters twice."""
        yield job.parameters
        yield job.parameters

    def aggregate_job_results(self, job: JobExecutionContext[Moment], stage_results: dict[int, StageResults[Any]]) -> Identity:
        """Answer with what the second task saw."""
        assert type(job.parameters.at) is datetime
        return self.looks.of(stage_results)[1]


def test_values_and_identity_reach_the_handler_whole(app: Stageflow) -> None:
    """Dates, enums and tuples are stored as JSON and come back as they were; a handler knows which task it is."""
    moment = Moment(at=datetime(2026, 5, 17, 8, 30, 0, 123456, tzinfo=UTC), colour=Colour.RED, numbers=(1.5, -0.0, 1e300))
    job_id = ended(app, moment)
    stored = {"at": "2026-05-17T08:30:00.123456Z", "colour": "red", "numbers": [1.5, -0.0, 1e300]}
    assert app.job(job_id).parameters == stored
    assert [each.parameters for each in app.repositories.tasks.list_tasks_for_job(job_id, 1)] == [stored] * 2
    answer = app.result(job_id)
    assert isinstance(answer, Identity)
    assert answer.worker_id
    assert answer.model_copy(update={"worker_id": ""}) == Identity(
        moment=moment,
        job_id=job_id,
        job_type="around",
        run=1,
        stage_number=1,
        task_index=1,
        task_type="look_around",
        task_id=f"{job_id}-1-1",
        attempt=1,
        worker_id="",
    )


def test_a_single_stage_job_has_its_whole_stage_result(app: Stageflow) -> None:
    """The last stage has a result too, with every field; as JSON it stands under its number as text."""
    moment = Moment(at=datetime(2026, 5, 17, tzinfo=UTC), colour=Colour.RED, numbers=())
    job = app.job(ended(app, moment))
    assert set(job.stage_results) == {"1"}
    key, entry = job.stage_results["1"].as_dict_entry()
    tasks = entry.pop("task_results")
    assert isinstance(tasks, list)
    assert datetime.fromisoformat(str(entry.pop("completed_at"))).utcoffset() == timedelta(0)
    assert (key, len(tasks)) == ("1", 2)
    assert entry == {
        "stage_number": 1,
        "status": "completed",
        "task_count": 2,
        "successful_tasks": 2,
        "failed_tasks": 0,
        "skipped_tasks": 0,
        "cancelled_tasks": 0,
        "success_rate": 100.0,
        "results_paged": False,
        "metadata": {},
        "orchestration": None,
    }
