"""People repair stages of jobs that have ended, on both stores, through the app and the command line."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobNotFoundError,
    JobRegistry,
    JobStatus,
    PermanentTaskError,
    Stageflow,
    StageResults,
    StageStatus,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.cli import main
from stageflow.testing.drain import drain_work

registry = JobRegistry()
runs: Counter[str] = Counter()
bad: set[int] = set()
TILES = 6


class Survey(Contract):
    """Job parameters."""


class Tile(Contract):
    """Parameters and result of a tile."""

    index: int
    value: int = 0


class Sum(Contract):
    """Parameters and result of the sum, and the answer."""

    total: int
    count: int


@task("repaired_tile")
def tile(parameters: Tile, context: TaskExecutionContext) -> Tile:  # noqa: ARG001  a handler's shape
    """Fail where a test says so; else count the call and return the square."""
    runs[f"tile {parameters.index}"] += 1
    if parameters.index in bad:
        msg = "not yet mended"
        raise PermanentTaskError(msg)
    return Tile(index=parameters.index, value=parameters.index**2)


@task("repaired_sum")
def add(parameters: Sum, context: TaskExecutionContext) -> Sum:  # noqa: ARG001  a handler's shape
    """Count the call and pass the sum on."""
    runs["sum"] += 1
    return parameters


@workflow("repaired", registry=registry)
class RepairedController(BaseController[Survey]):
    """Tiles, combined, of which some may fail; then one sum of them."""

    tiles = stage(1, "tiles", task=tile, policy=FailurePolicy.any_may_fail())
    summing = stage(2, "sum", task=add, after=tiles)

    @tiles.plan
    def plan_tiles(self, job: JobExecutionContext[Survey]) -> Iterator[Tile]:  # noqa: ARG002  a planner's shape
        """Plan the tiles."""
        runs["plan"] += 1
        yield from (Tile(index=index) for index in range(TILES))

    @tiles.combine
    def add_two(self, one: Tile, other: Tile) -> Tile:
        """Add two tiles up."""
        return Tile(index=one.index, value=one.value + other.value)

    @summing.plan
    def plan_sum(self, job: JobExecutionContext[Survey], tiles: StageResults[Tile]) -> Iterator[Sum]:  # noqa: ARG002
        """Plan the sum, of the combination and of the results, which must agree."""
        listed = list(tiles)
        combined = tiles.combined()
        assert combined is not None
        assert combined.value == sum(each.value for each in listed)
        yield Sum(total=combined.value, count=len(listed))

    def aggregate_job_results(
        self,
        job: JobExecutionContext[Survey],  # noqa: ARG002  a hook's shape
        stage_results: dict[int, StageResults[Any]],
    ) -> Sum:
        """Answer with the sum."""
        return self.summing.of(stage_results)[0]


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each store, migrated and empty."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    runs.clear()
    bad.clear()
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        yield app


def _run(app: Stageflow, *failing: int) -> str:
    """Run a job to its end while some tiles fail, and return its id with all of them mended."""
    bad.update(failing)
    job_id = app.submit(RepairedController, Survey(), new_run=True).job.job_id
    drain_work(app)
    bad.clear()
    runs.clear()
    return job_id


def test_the_failed_tasks_run_again_and_what_depends_on_them(app: Stageflow) -> None:
    """Without names the failed ones are meant; the dry run changes nothing; nothing else is planned or run."""
    job_id = _run(app, 2, 4)
    before = app.job(job_id)
    assert before.status is JobStatus.COMPLETED_WITH_ERRORS
    would = app.repair(job_id, 1, dry_run=True)
    assert (would.tasks, would.kept_tasks, would.kept_stages, would.later_stages) == ([2, 4], 4, [], [2])
    assert (would.former_run, would.run, would.generation, would.dry_run) == (1, 2, 2, True)
    assert app.job(job_id) == before
    assert app.repair(job_id, 1) == would.model_copy(update={"dry_run": False})
    drain_work(app)
    assert runs == {"tile 2": 1, "tile 4": 1, "sum": 1}
    assert app.job(job_id).status is JobStatus.COMPLETED
    assert app.result(job_id, timeout=0) == Sum(total=55, count=6)
    former, repaired = (app.repositories.stages.list_stages(job_id, run)[0] for run in (1, 2))
    assert (former.status, former.failed_tasks) == (StageStatus.COMPLETED_WITH_ERRORS, 2)
    assert (repaired.status, repaired.failed_tasks, repaired.generation) == (StageStatus.COMPLETED, 0, 2)


def test_a_repair_that_fails_is_repaired(app: Stageflow) -> None:
    """Named tasks that fail now leave a stage with a result, which can be repaired in its turn."""
    job_id = _run(app)
    bad.add(1)
    app.repair(job_id, 1, tasks=[5, 1, 1])
    drain_work(app)
    assert app.result(job_id, timeout=0) == Sum(total=54, count=5)
    bad.clear()
    assert app.repair(job_id, 1).tasks == [1]
    drain_work(app)
    assert runs == {"tile 1": 2, "tile 5": 1, "sum": 2}
    assert app.result(job_id, timeout=0) == Sum(total=55, count=6)


def test_a_job_that_failed_as_a_whole_is_repaired(app: Stageflow) -> None:
    """Where no tile completed the job failed; one that is mended is enough for this policy."""
    job_id = _run(app, *range(TILES))
    assert app.job(job_id).status is JobStatus.FAILED
    answer = app.repair(job_id, 1, tasks=[3])
    assert (answer.former_status, answer.later_stages) == (JobStatus.FAILED, [])
    assert "6 of 6 tasks failed" in (answer.former_error or "")
    drain_work(app)
    assert app.result(job_id, timeout=0) == Sum(total=9, count=1)


def test_what_cannot_be_repaired_is_told_why(app: Stageflow) -> None:
    """States, stages and tasks are named with those that are right, and nothing changes."""
    job_id = app.submit(RepairedController, Survey()).job.job_id
    with pytest.raises(InvalidTransitionError, match=r"is queued and cannot be repaired.* allowed from queued: cancelled"):
        app.repair(job_id, 1)
    drain_work(app)
    before = app.job(job_id)
    for number in (0, 3):
        with pytest.raises(InvalidValueError, match=f"stage {number} of job .* is completed in run 1.* that is stage 1, 2"):
            app.repair(job_id, number)
    for tasks, message in (
        ([], "name at least one task"),
        ([0, 6, -1], "has tasks 0 to 5, and not -1, 6"),
        (None, "no task of stage 1 .* failed"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            app.repair(job_id, 1, tasks=tasks)
    assert app.job(job_id) == before
    with pytest.raises(JobNotFoundError, match="stageflow jobs"):
        app.repair("0" * 64, 1)
    with pytest.raises(InvalidTransitionError, match="allowed from completed: queued, by repair of one of its stages"):
        app.resubmit(job_id)
    app.repair(job_id, 2, tasks=[0])
    with pytest.raises(InvalidTransitionError, match="is queued and cannot be repaired"):
        app.repair(job_id, 2, tasks=[0])
    app.cancel(job_id)
    with pytest.raises(InvalidValueError, match=r"is cancelled in run 2.* that is stage 1$"):
        app.repair(job_id, 2, tasks=[0])


def test_the_command_line_repairs(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what happens, or would happen; a wrong state exits with 1, a wrong stage, task or text with 2."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    job_id = _run(app, 2)

    def call(*arguments: str) -> tuple[int, str]:
        answer = CliRunner().invoke(main, ["repair", job_id[:12], *arguments, "--app", f"{__name__}:cli_app"])
        return answer.exit_code, answer.output

    says = f"{job_id} would be queued as run 2: 3 tasks of stage 1 run again, 3 keep their results; then stage 2 again\n"
    assert call("--stage", "1", "--tasks", "0, 2-3", "--dry-run") == (0, says)
    for arguments, message in (
        (("3",), "cannot be repaired"),
        (("1", "--tasks", "9"), "has tasks 0 to 5, and not 9"),
        (("1", "--tasks", "3-1"), "neither an index nor a range"),
        (("1", "--tasks", "0-99999999"), "more than 1000000 tasks"),
        (("1", "--tasks", ""), "neither an index nor a range"),
    ):
        code, printed = call("--stage", *arguments)
        assert (code, message in " ".join(printed.split())) == (2, True), printed
    code, printed = call("--stage", "1", "--json")
    answer = json.loads(printed)
    assert (code, answer["run"], answer["tasks"], app.job(job_id).status) == (0, 2, [2], JobStatus.QUEUED)
    code, printed = call("--stage", "1")
    assert (code, "is queued and cannot be repaired" in printed) == (1, True)
