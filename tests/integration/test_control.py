"""People pause a job amid work and let it go on, on both stores, through the app and the command line."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from stageflow import (
    BaseController,
    Contract,
    InvalidTransitionError,
    InvalidValueError,
    JobExecutionContext,
    JobNotFoundError,
    JobQueueMessage,
    JobRegistry,
    JobStatus,
    PermanentTaskError,
    ProcessingOutcome,
    Stageflow,
    StageResults,
    StageStatus,
    SubmitOutcome,
    TaskExecutionContext,
    TaskQueueMessage,
    TaskStatus,
    WaitTimeoutError,
    stage,
    task,
    workflow,
)
from stageflow.app.answers import answer_of
from stageflow.cli import main
from stageflow.engine.resubmit import resubmit_job
from stageflow.testing.drain import drain_work

registry = JobRegistry()
interrupting: dict[str, Callable[[str], object]] = {}
runs: Counter[int] = Counter()
failing: set[int] = set()


class Three(Contract):
    """Job parameters."""


class Item(Contract):
    """Task parameters and result."""

    index: int


class Sums(Contract):
    """The job's answer."""

    first: int
    second: int


@task("interrupted_item")
def item(parameters: Item, context: TaskExecutionContext) -> Item:
    """Count the call, in the second task do what a test asks for, and fail as long as a test wants it."""
    runs[parameters.index] += 1
    if parameters.index in failing:
        msg = "not yet mended"
        raise PermanentTaskError(msg)
    if parameters.index == 1 and "task" in interrupting:
        interrupting["task"](context.job_id)
    return parameters


@workflow("interrupted", registry=registry)
class InterruptedController(BaseController[Three]):
    """Two stages of three tasks."""

    first = stage(1, "first", task=item)
    second = stage(2, "second", task=item)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Three]) -> Iterator[Item]:
        """Plan three tasks, after what a test asks for."""
        if "plan" in interrupting:
            interrupting["plan"](job.job_id)
        yield from (Item(index=index) for index in range(3))

    @second.plan
    def plan_second(self, job: JobExecutionContext[Three]) -> Iterator[Item]:  # noqa: ARG002  a planner's shape
        """Plan three more."""
        yield from (Item(index=10 + index) for index in range(3))

    def aggregate_job_results(self, job: JobExecutionContext[Three], stage_results: dict[int, StageResults[Any]]) -> Sums:
        """Add up the indexes, after what a test asks for."""
        if "answer" in interrupting:
            interrupting["answer"](job.job_id)
        first, second = (sum(each.index for each in stage_results[number]) for number in (1, 2))
        return Sums(first=first, second=second)


class ChangedController(InterruptedController):
    """What became of it: another answer."""

    def aggregate_job_results(self, job: JobExecutionContext[Three], stage_results: dict[int, StageResults[Any]]) -> Item:  # type: ignore[override]  # noqa: ARG002
        """Answer something else."""
        return Item(index=len(stage_results))


class ShortenedController(BaseController[Three]):
    """What became of it: one stage."""

    only = stage(1, "only", task=item)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Three]) -> Iterator[Item]:  # noqa: ARG002  a planner's shape
        """Plan one task."""
        yield Item(index=0)


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Stageflow]:
    """Give an app on each store, migrated and empty."""
    url = "sqlite::memory:" if request.param == "sqlite" else request.getfixturevalue("migrated_dsn")
    interrupting.clear()
    runs.clear()
    failing.clear()
    with Stageflow(url, registry=registry) as app:
        app.migrate()
        yield app


def test_a_job_paused_by_its_own_task_stops_and_goes_on(app: Stageflow) -> None:
    """What ran when the pause came is recorded, nothing else starts, and no task runs twice."""
    interrupting["task"] = app.pause
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    assert app.job(job_id).status is JobStatus.PAUSED
    first = app.repositories.tasks.list_tasks_for_job(job_id, 1, 0, 10)
    assert [each.status for each in first] == [TaskStatus.COMPLETED, TaskStatus.COMPLETED, TaskStatus.QUEUED]
    assert drain_work(app) == 0
    assert app.resume(job_id).status is JobStatus.PROCESSING
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED
    assert runs == {0: 1, 1: 1, 2: 1, 10: 1, 11: 1, 12: 1}


def test_a_job_paused_before_it_began_is_queued_again(app: Stageflow) -> None:
    """A pause in the queue leaves no trace, and pausing twice changes nothing."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    assert app.pause(job_id).status is JobStatus.PAUSED
    assert app.pause(job_id).status is JobStatus.PAUSED
    assert drain_work(app) == 0
    assert app.resume(job_id).status is JobStatus.QUEUED
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED


def test_who_waits_for_a_pause_is_told_to_resume(app: Stageflow) -> None:
    """A job that is paused, or whose next tasks are, ends with no patience; no worker is asked after."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    app.pause_task_type("interrupted", "interrupted_item")
    with pytest.raises(WaitTimeoutError, match=r"type interrupted/interrupted_item is paused: .*`stageflow resume-type interr"):
        app.wait(job_id, timeout=0)
    app.pause(job_id)
    with pytest.raises(WaitTimeoutError, match=f"is paused at stage 1 after 0 s; resume it with `stageflow resume {job_id}`"):
        app.wait(job_id, timeout=0)
    app.resume(job_id)
    app.resume_task_type("interrupted", "interrupted_item")
    with pytest.raises(WaitTimeoutError, match="is a worker running"):
        app.wait(job_id, timeout=0)


def test_a_blank_reason_cancels_nothing(app: Stageflow) -> None:
    """Whoever asks later why a job was cancelled is answered."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    with pytest.raises(InvalidValueError, match="the reason is blank"):
        app.cancel(job_id, reason=" ")
    assert app.job(job_id).status is JobStatus.QUEUED


def test_what_is_not_paused_is_not_resumed(app: Stageflow) -> None:
    """A wrong state is named with what is allowed in it, and nothing changes."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    with pytest.raises(InvalidTransitionError, match=r"is queued and cannot be resumed.* from queued: cancelled, failed"):
        app.resume(job_id)
    assert app.job(job_id).status is JobStatus.QUEUED
    drain_work(app)
    before = app.job(job_id)
    with pytest.raises(
        InvalidTransitionError,
        match=f"job {job_id}: JobStatus completed cannot become paused; allowed: queued, by repair of one of its stages",
    ):
        app.pause(job_id)
    with pytest.raises(InvalidTransitionError, match="is completed and cannot be resumed"):
        app.resume(job_id)
    assert app.job(job_id) == before
    with pytest.raises(JobNotFoundError, match="stageflow jobs"):
        app.resume("0" * 64)


def test_a_failed_job_is_resubmitted_as_a_whole(app: Stageflow) -> None:
    """After the bug is mended all runs again under the same id, and what the former run left can be looked at."""
    failing.add(11)
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    error = app.job(job_id).error_details
    assert "not yet mended" in (error or "")
    failing.clear()
    answer = app.resubmit(job_id)
    assert (answer.former_run, answer.former_status, answer.former_error) == (1, JobStatus.FAILED, error)
    assert (answer.run, answer.from_stage, answer.kept_stages, answer.kept_tasks) == (2, 1, [], 0)
    assert app.submit(InterruptedController, Three()).outcome is SubmitOutcome.RUNNING
    drain_work(app)
    job = app.job(job_id)
    assert (job.status, job.run, job.error_details) == (JobStatus.COMPLETED, 2, None)
    assert runs == {0: 2, 1: 2, 2: 2, 10: 2, 11: 2, 12: 2}
    former = app.repositories.stages.list_stages(job_id, 1)
    assert [stage.status for stage in former] == [StageStatus.COMPLETED, StageStatus.FAILED]
    failed = app.repositories.stages.list_result_rows(former[1].stage_id, 0, 10, failed_only=True)
    assert [row.task_index for row in failed] == [1]


def test_a_failed_job_goes_on_from_the_stage_that_failed(app: Stageflow) -> None:
    """A dry run says what would happen and changes nothing; then the stages before keep their results, and do not run again."""
    failing.add(11)
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    before = app.job(job_id)
    would = app.resubmit(job_id, from_stage=2, dry_run=True)
    assert (would.run, would.from_stage, would.kept_stages, would.kept_tasks, would.dry_run) == (2, 2, [1], 3, True)
    assert app.job(job_id) == before
    failing.clear()
    assert app.resubmit(job_id, from_stage=2) == would.model_copy(update={"dry_run": False})
    drain_work(app)
    result = app.wait(job_id, timeout=0)
    assert (result.status, result.total_tasks, result.successful_tasks) == (JobStatus.COMPLETED, 6, 6)
    assert runs == {0: 1, 1: 1, 2: 1, 10: 2, 11: 2, 12: 2}
    seen = app.result(job_id, Sums, timeout=0)
    assert (seen.first, seen.second) == (3, 33)


def test_an_answer_is_asked_for_by_its_model(app: Stageflow) -> None:
    """Whoever names the model has an instance of it or an error that says what the job answered, never another value."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    assert type(app.result(job_id, Sums, timeout=0)) is Sums
    with pytest.raises(InvalidValueError, match="was asked for a Three, and answered Sums"):
        app.result(job_id, Three, timeout=0)


def test_an_answer_of_another_shape_is_told_with_its_job(app: Stageflow) -> None:
    """A model that was changed after the job ended is named, with the field and where the stored answer is."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    changed = JobRegistry()
    changed.register(ChangedController, "interrupted")
    with pytest.raises(InvalidValueError, match=f"answer of job {job_id} is no Item: index: Field required; .*result_data"):
        answer_of(changed, app.repositories, app.job(job_id))


def test_a_new_run_paused_before_it_began_is_queued_again(app: Stageflow) -> None:
    """What it took over from the former run does not count as begun."""
    failing.add(11)
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    app.resubmit(job_id, from_stage=2)
    app.pause(job_id)
    assert app.resume(job_id).status is JobStatus.QUEUED
    failing.clear()
    drain_work(app)
    assert app.job(job_id).status is JobStatus.COMPLETED


def test_a_job_resubmitted_while_a_handler_runs_is_not_touched_by_it(app: Stageflow) -> None:
    """A handler of the former run that cancels and resubmits its own job ends where it began."""

    def again(job_id: str) -> None:
        interrupting.clear()
        app.cancel(job_id)
        app.resubmit(job_id)

    interrupting["task"] = again
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    job = app.job(job_id)
    assert (job.status, job.run) == (JobStatus.COMPLETED, 2)
    (former,) = app.repositories.stages.list_stages(job_id, 1)
    assert (former.status, former.remaining) == (StageStatus.CANCELLED, 0)


@pytest.mark.faults
def test_f13_messages_of_the_former_run_are_acknowledged_without_work(app: Stageflow) -> None:
    """A host that still gets them runs nothing, and is told to let them go; those of the new run do their work."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    controller = registry.find(InterruptedController).controller
    message = JobQueueMessage(job_id=job_id, job_type="interrupted", stage_number=1)
    assert controller.process_job_queue_message(message).stages_planned == [1]
    app.cancel(job_id)
    app.resubmit(job_id)
    tasks = TaskQueueMessage(
        job_id=job_id, job_type="interrupted", stage_number=1, task_type="interrupted_item", first=0, last=3
    )
    assert controller.process_job_queue_message(message).outcome is ProcessingOutcome.DUPLICATE
    assert controller.process_task_queue_message(tasks).outcome is ProcessingOutcome.DUPLICATE
    assert runs == {}
    assert controller.process_job_queue_message(message.model_copy(update={"run": 2})).stages_planned == [1]
    assert controller.process_task_queue_message(tasks.model_copy(update={"run": 2})).tasks_run == 3


def test_a_planner_that_outlives_its_run_plans_nothing(app: Stageflow) -> None:
    """A job that is cancelled and resubmitted while it is planned is planned anew, once."""

    def again(job_id: str) -> None:
        interrupting.clear()
        app.cancel(job_id)
        app.resubmit(job_id)

    interrupting["plan"] = again
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    job = app.job(job_id)
    assert (job.status, job.run) == (JobStatus.COMPLETED, 2)
    assert runs == {0: 1, 1: 1, 2: 1, 10: 1, 11: 1, 12: 1}


def test_an_end_of_a_former_run_ends_nothing(app: Stageflow) -> None:
    """Who aggregates a job that is cancelled and resubmitted meanwhile does not complete the new run."""

    def again(job_id: str) -> None:
        interrupting.clear()
        app.cancel(job_id)
        app.resubmit(job_id, from_stage=2)

    interrupting["answer"] = again
    job_id = app.submit(InterruptedController, Three()).job.job_id
    drain_work(app)
    job = app.job(job_id)
    assert (job.status, job.run) == (JobStatus.COMPLETED, 2)
    assert runs == {0: 1, 1: 1, 2: 1, 10: 2, 11: 2, 12: 2}


def test_what_cannot_be_resubmitted_is_told_why(app: Stageflow) -> None:
    """A wrong state is named with what is allowed in it, and a wrong stage with those that are right; nothing changes."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    with pytest.raises(InvalidTransitionError, match=r"is queued and cannot be resubmitted.* from queued: cancelled"):
        app.resubmit(job_id)
    app.cancel(job_id)
    with pytest.raises(InvalidValueError, match=r"^resubmit: timeout_seconds: .*; nothing was resubmitted, correct"):
        app.resubmit(job_id, timeout_seconds=-1.0)
    before = app.job(job_id)
    for stage_number in (0, 2, 3):
        with pytest.raises(InvalidValueError, match=f"is cancelled and cannot be.* from stage {stage_number};.* stage 1:"):
            app.resubmit(job_id, from_stage=stage_number)
    assert app.job(job_id) == before
    with pytest.raises(JobNotFoundError, match="stageflow jobs"):
        app.resubmit("0" * 64)


def test_a_workflow_with_other_stages_resubmits_nothing(app: Stageflow) -> None:
    """Code that changed without a new version is told apart before anything is written."""
    job_id = app.submit(InterruptedController, Three()).job.job_id
    app.cancel(job_id)
    before = app.job(job_id)
    changed = JobRegistry()
    changed.register(ShortenedController, "interrupted")
    with pytest.raises(InvalidValueError, match="has 2 stages, and 'interrupted' version 1 is registered with 1;"):
        resubmit_job(job_id, changed, app.repositories, app.telemetry, from_stage=1, dry_run=False)
    assert app.job(job_id) == before


def test_an_ambiguous_id_is_refused_by_the_command_line(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two jobs that begin alike neither is touched."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    ids = [app.submit(InterruptedController, Three(), new_run=True).job.job_id for _ in range(17)]
    begin = next(each[0] for each in ids if sum(other[0] == each[0] for other in ids) > 1)
    for command in ("pause", "resume", "resubmit"):
        answer = CliRunner().invoke(main, [command, begin, "--app", f"{__name__}:cli_app"])
        assert (answer.exit_code, "fits several jobs" in answer.output) == (2, True)
    assert {app.job(each).status for each in ids} == {JobStatus.QUEUED}


def test_the_command_line_resubmits(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what happens, or would happen; a wrong state exits with 1, a wrong stage with 2."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    job_id = app.submit(InterruptedController, Three()).job.job_id

    def call(*arguments: str) -> tuple[int, str]:
        answer = CliRunner().invoke(main, ["resubmit", job_id[:12], *arguments, "--app", f"{__name__}:cli_app"])
        return answer.exit_code, answer.output

    code, printed = call()
    assert (code, "is queued and cannot be resubmitted" in printed) == (1, True)
    app.cancel(job_id)
    code, printed = call("--from-stage", "2")
    assert (code, "cannot be resubmitted from stage 2" in printed) == (2, True)
    assert call("--dry-run") == (0, f"{job_id} would be queued as run 2, from stage 1\n")
    code, printed = call("--json")
    assert (code, json.loads(printed)["run"], app.job(job_id).status) == (0, 2, JobStatus.QUEUED)


def test_the_command_line_pauses_and_resumes(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of an id is enough; a wrong state exits with 1, an unknown id with 2."""
    monkeypatch.setattr(f"{__name__}.cli_app", app, raising=False)
    job_id = app.submit(InterruptedController, Three()).job.job_id

    def call(*arguments: str) -> tuple[int, str]:
        answer = CliRunner().invoke(main, [*arguments, "--app", f"{__name__}:cli_app"])
        return answer.exit_code, answer.output

    code, printed = call("pause", job_id[:12], "--json")
    assert (code, json.loads(printed)["status"]) == (0, "paused")
    assert call("resume", job_id[:12]) == (0, f"{job_id} queued\n")
    code, printed = call("resume", job_id[:12])
    assert code == 1
    assert "is queued and cannot be resumed" in printed
    code, printed = call("pause", "ffffffffffff")
    assert (code, "no job whose id begins" in printed) == (2, True)
