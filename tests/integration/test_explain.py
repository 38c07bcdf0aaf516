"""Every way in which a job stands still is explained, on both stores."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from socket import create_server

import pytest

from stageflow import (
    BaseController,
    Contract,
    FailurePolicy,
    JobExecutionContext,
    JobNotFoundError,
    JobRegistry,
    JobStatus,
    RetryPolicy,
    StageResults,
    TaskExecutionContext,
    stage,
    task,
    workflow,
)
from stageflow.backends.azure import AzureStorageQueue
from stageflow.backends.postgres import PostgresStore
from stageflow.backends.sqlite import SqliteStore
from stageflow.contracts.job import JobEnding, NewJob
from stageflow.contracts.lease import HeldLease, Lease
from stageflow.contracts.status import StageStatus
from stageflow.contracts.worker import WorkerRecord
from stageflow.insights import Explanation, Finding, FindingKind, explain_job
from stageflow.ports import Queue
from stageflow.repositories import Repositories
from stageflow.testing.azurite_server import AzuriteServer
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    Again,
    MovableStore,
    advance,
    all_types,
    ask,
    cancel,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    complete_one,
    create,
    finish,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    report,
    run_all,
    start,
    stored_result,
    tasks_type,
)

registry = JobRegistry()
JOB = new_job(stages=2)


class Many(Contract):
    """Job parameters."""

    name: str


class Item(Contract):
    """Task parameters and result."""

    index: int


@task("work")
def work(parameters: Item, context: TaskExecutionContext) -> Item:  # noqa: ARG001  the shape of a handler
    """Return the parameters."""
    return parameters


@workflow("demo", registry=registry)
class DemoController(BaseController[Many]):
    """Two stages."""

    first = stage(1, "stage 1", task=work, retry=RetryPolicy(max_attempts=5))
    second = stage(2, "stage 2", task=work, after=first, policy=FailurePolicy.at_least(90))

    @first.plan
    def plan_first(self, job: JobExecutionContext[Many]) -> Iterator[Item]:  # noqa: ARG002  the shape of a planner
        """One task."""
        yield Item(index=0)

    @second.plan
    def plan_second(self, job: JobExecutionContext[Many], first: StageResults[Item]) -> Iterator[Item]:  # noqa: ARG002  likewise
        """One task for each."""
        yield from first


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[MovableStore]:
    """Give a migrated, empty store of each kind."""
    made: MovableStore
    made = SqliteStore(":memory:") if request.param == "sqlite" else PostgresStore(request.getfixturevalue("migrated_dsn"))
    made.migrate()
    yield made
    made.close()


def explain(store: MovableStore, job: NewJob = JOB, *, queue: Queue | None = None) -> Explanation:
    """Explain a job of a store."""
    return explain_job(Repositories.over(store), registry, job.job_id, queue=queue)


def the(explanation: Explanation, kind: FindingKind) -> Finding:
    """Return the one finding of a kind."""
    (finding,) = [finding for finding in explanation.findings if finding.kind is kind]
    assert finding.text in explanation.text
    return finding


def be_seen(store: MovableStore, worker: str = "ada", *work_types: str) -> None:
    """Let a worker send the heartbeat that registers it."""
    now = datetime.now(UTC)
    known = list(work_types) or all_types(JOB)
    store.register_worker(
        WorkerRecord(worker_id=worker, host="here", pid=1, slots=4, work_types=known, started_at=now, seen_at=now)
    )


def beat(store: MovableStore, lease: Lease, index: int, worker: str = "ada") -> None:
    """Let a worker keep a lease, at a task."""
    held = HeldLease(range_id=lease.range_id, token=lease.token, current_index=index)
    assert store.extend_leases(worker, [held], 30.0).held == [lease.token]
    be_seen(store, worker)


def test_a_job_that_runs_is_well(store: MovableStore) -> None:
    """The chain goes from the job over the stage to who runs it, and nothing needs to be done."""
    start(store, JOB, 1200)
    be_seen(store, "w7")
    claim_one(store, tasks_type(JOB), worker="w7", max_tasks=1000)
    explanation = explain(store)
    assert explanation.kinds == [FindingKind.JOB_OPEN, FindingKind.STAGE_WAITS, FindingKind.RUNNING, FindingKind.READY]
    assert the(explanation, FindingKind.STAGE_WAITS).text == "stage 1 (stage 1) waits for 1,200 of 1,200 tasks"
    running = the(explanation, FindingKind.RUNNING)
    assert running.text.startswith("1,000 tasks are leased by worker w7, the one that has run longest since ")
    assert running.text.endswith("; its lease ends in 30 s unless it is renewed")
    assert "1 live worker with 4 slots knows demo/1/work" in the(explanation, FindingKind.READY).text
    assert [finding.depth for finding in explanation.findings] == [0, 1, 2, 2]
    assert not running.advice


def test_a_retry_names_its_time_its_error_and_its_attempt(store: MovableStore) -> None:
    """Tasks that failed alike are one sentence."""
    start(store, JOB, 3)
    be_seen(store)
    lease = claim_one(store, tasks_type(JOB))
    gone = Again(600.0, "Traceback:\n  somewhere\nConnectionError: password=hunter2 refused")
    complete_one(store, report(lease, OK, gone, gone))
    retry = the(explain(store), FindingKind.RETRY_SCHEDULED)
    assert retry.task_count == 2
    assert retry.until is not None
    assert timedelta(seconds=590) < retry.until - store.now() <= timedelta(seconds=600)
    assert retry.text.startswith("2 tasks are due at ")
    assert f"{retry.until:%H:%M:%S}" in retry.text
    assert "after ConnectionError: password=*** refused (attempt 2 of 5)" in retry.text


def test_a_killed_worker_is_named_while_its_lease_lasts_and_after(store: MovableStore) -> None:
    """A lease without heartbeats is told before it ends, and that nobody takes it over where nobody is there."""
    start(store, JOB, 3)
    be_seen(store, "w7")
    claim_one(store, tasks_type(JOB), worker="w7")
    store.move_clock(20)
    silent = the(explain(store), FindingKind.WORKER_SILENT)
    assert "tasks 0 to 2 are leased by worker w7, last heard of at" in silent.text
    assert silent.text.endswith("its lease ends in 10 s")
    assert silent.advice.startswith("start a worker for this workflow"), "it was seen 20 s ago, but it is not alive"
    store.move_clock(60)
    silent = the(explain(store), FindingKind.WORKER_SILENT)
    assert silent.text.endswith("its lease ended 50 s ago")
    assert silent.advice.startswith("start a worker for this workflow")
    be_seen(store, "w8")
    assert the(explain(store), FindingKind.WORKER_SILENT).advice.startswith("nothing: a live worker takes the work over")


def test_a_task_that_killed_its_worker_says_so(store: MovableStore) -> None:
    """After the recovery the task waits again, and the death is told."""
    start(store, JOB, 1)
    claim_one(store, tasks_type(JOB))
    let_leases_expire(store)
    be_seen(store)
    explanation = explain(store)
    assert the(explanation, FindingKind.WORKER_DIED).text == "1 worker died over task 0"
    assert FindingKind.READY in explanation.kinds


def test_a_handler_that_hangs_is_named(store: MovableStore) -> None:
    """The worker lives and renews its lease, but has been at one task for long."""
    start(store, JOB, 3)
    lease = claim_one(store, tasks_type(JOB), worker="w7")
    beat(store, lease, 1, "w7")
    since = store.now()
    for _ in range(40):
        store.move_clock(20)
        beat(store, lease, 1, "w7")
    slow = the(explain(store), FindingKind.HANDLER_SLOW)
    assert slow.text.startswith("task 1 has been running on worker w7 since ")
    assert "(13 min)" in slow.text
    assert slow.since is not None
    assert abs(slow.since - since) < timedelta(seconds=10)


def test_a_queue_that_is_down_is_named(store: MovableStore) -> None:
    """Ready work of which the queue cannot tell is explained by the queue's own error."""
    with create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    key = "a2V5" * 22
    address = f"AccountName=down;AccountKey={key};QueueEndpoint=http://127.0.0.1:{port}/down"
    queue = AzureStorageQueue.from_connection_string(address)
    create(store, JOB)
    finding = the(explain(store, queue=queue), FindingKind.QUEUE_UNREACHABLE)
    queue.close()
    assert "the planning of the stage is ready, but the queue that tells of it cannot be reached: " in finding.text
    assert key not in finding.text
    assert finding.advice == "bring the queue back; what waits is announced by itself then"


def test_an_outbox_that_does_not_leave_is_named(store: MovableStore, azurite: AzuriteServer) -> None:
    """The queue is there, but nobody tells it."""
    queue = AzureStorageQueue.from_connection_string(azurite.connection_string, prefix="explained")
    queue.create()
    start(store, JOB, 3)
    be_seen(store)
    assert FindingKind.NOT_ANNOUNCED not in explain(store, queue=queue).kinds
    store.move_clock(30)
    late = the(explain(store, queue=queue), FindingKind.NOT_ANNOUNCED)
    assert late.text.startswith("3 tasks are ready since ")
    assert late.text.endswith("and the queue was not told")
    store.mark_announced([unannounced.range_id for unannounced in store.list_unannounced(older_than_seconds=None, limit=9)])
    assert FindingKind.READY in explain(store, queue=queue).kinds
    queue.close()


def test_a_paused_job_says_so_and_what_still_runs(store: MovableStore) -> None:
    """A pause is the first thing to know."""
    start(store, JOB, 4)
    be_seen(store)
    claim_one(store, tasks_type(JOB), max_tasks=1)
    pause(store, JOB)
    explanation = explain(store)
    assert the(explanation, FindingKind.HELD).text == "3 tasks are held until the job is resumed"
    assert ask(store, tasks_type(JOB)).leases == []
    explanation = explain(store)
    assert explanation.kinds[0] is FindingKind.JOB_PAUSED
    assert explanation.findings[0].advice == "`stageflow resume` the job"
    assert the(explanation, FindingKind.HELD).text == "3 tasks are held until the job is resumed"
    assert FindingKind.RUNNING in explanation.kinds


def test_work_that_no_worker_knows_is_named_with_its_type(store: MovableStore) -> None:
    """A worker for other work is no help, and one that was there before is named."""
    start(store, JOB, 3)
    nobody = the(explain(store), FindingKind.NO_WORKER)
    assert nobody.text == "no live worker knows demo/1/work; none runs"
    assert nobody.advice == "start a worker that registers workflow demo version 1"
    be_seen(store, "w1", "other/1")
    assert the(explain(store), FindingKind.NO_WORKER).text.endswith("; 1 live worker is there, for other work")
    be_seen(store, "w2")
    assert FindingKind.NO_WORKER not in explain(store).kinds
    store.move_clock(600)
    assert "; the last that did, w2, was seen at " in the(explain(store), FindingKind.NO_WORKER).text


def test_a_job_that_waits_for_its_start_says_until_when(store: MovableStore) -> None:
    """It is planned no earlier."""
    due = store.now() + timedelta(minutes=90)
    job = new_job("later", not_before=due)
    create(store, job)
    be_seen(store)
    waiting = the(explain(store, job), FindingKind.WAITS_FOR_START)
    assert waiting.until == due
    assert waiting.text.endswith("the job was submitted to start no earlier")


def test_a_cancelled_job_says_who_and_what_still_runs(store: MovableStore) -> None:
    """Running handlers are told to stop, and until they do they are named."""
    start(store, JOB, 2)
    be_seen(store)
    claim_one(store, tasks_type(JOB), max_tasks=1)
    cancel(store, JOB)
    explanation = explain(store)
    assert explanation.status is JobStatus.CANCELLED
    assert explanation.kinds[0] is FindingKind.JOB_CANCELLED
    assert FindingKind.RUNNING in explanation.kinds


def test_a_stage_that_its_policy_failed_names_the_policy_and_the_tasks(store: MovableStore) -> None:
    """The chain goes from the job over the stage and its policy to the first failures."""
    start(store, JOB, 1)
    opened = advance(store, run_all(store, JOB), new_stage(2, minimum_success_rate=90.0))
    assert opened.plan is not None
    store.add_tasks(chunk(opened.plan, 10))
    answer = complete_one(store, report(claim_one(store, tasks_type(JOB)), *[BAD] * 5, *[OK] * 5))
    assert answer.advance is not None
    status, text = stored_result(store, answer.advance, StageStatus.FAILED)
    assert store.end_job(
        JobEnding(
            job_id=JOB.job_id,
            status=JobStatus.FAILED,
            error_details="stage 2 failed",
            range_id=answer.advance.range_id,
            token=answer.advance.token,
            stage_id=answer.advance.stage_id,
            stage_status=StageStatus(status),
            stage_result=text,
        )
    )
    explanation = explain(store)
    assert explanation.kinds == [FindingKind.JOB_FAILED, FindingKind.STAGE_FAILED, *[FindingKind.TASK_FAILED] * 4]
    failed = the(explanation, FindingKind.STAGE_FAILED)
    assert failed.text == (
        "stage 2 (stage 2) failed: of 10 tasks 5 completed, 5 failed; "
        "its policy is that at least 90 % of the tasks must complete"
    )
    assert explanation.findings[2].text == "task 0 failed in its attempt 1: task 0 is failed"
    assert explanation.findings[-1].text == "2 further tasks failed"


def test_several_leases_are_one_sentence_and_those_in_trouble_have_their_own(store: MovableStore) -> None:
    """Who is well is counted; who is silent is named."""
    start(store, JOB, 9, range_count=3)
    for worker in ("w1", "w2", "w3"):
        be_seen(store, worker)
        claim_one(store, tasks_type(JOB), worker=worker, max_tasks=3)
    explanation = explain(store)
    assert the(explanation, FindingKind.RUNNING).text.startswith(
        "9 tasks are leased by 3 workers, the one that has run longest "
    )
    store.move_clock(20)
    be_seen(store, "w1")
    be_seen(store, "w2")
    explanation = explain(store)
    assert the(explanation, FindingKind.RUNNING).text.startswith("6 tasks are leased by 2 workers")
    assert "leased by worker w3" in the(explanation, FindingKind.WORKER_SILENT).text


def test_planning_and_advancing_in_progress_are_told(store: MovableStore) -> None:
    """Between the tasks there is control work, and it has a holder like any other."""
    create(store, JOB)
    be_seen(store)
    plan = claim_plan(store, JOB)
    store.add_tasks(chunk(plan, 5, final=False))
    explanation = explain(store)
    assert the(explanation, FindingKind.PLANNING).text == "stage 1 (stage 1) is being planned, 5 tasks so far"
    assert the(explanation, FindingKind.RUNNING).text.startswith("the planning of the stage is leased by worker ada")
    store.add_tasks(chunk(plan, 0, first_index=5))
    run_all(store, JOB)
    explanation = explain(store)
    assert the(explanation, FindingKind.ADVANCING).text == "stage 1 (stage 1) has run all its tasks and is being advanced"
    assert the(explanation, FindingKind.RUNNING).text.startswith("the advancing of the stage is leased by worker ada")


def test_a_completed_job_says_when_and_what_failed_on_the_way(store: MovableStore) -> None:
    """All is well, and the failures that were allowed are told."""
    job = new_job("one stage")
    start(store, job, 4)
    (lease,) = claim_all(store, tasks_type(job))
    answer = complete_one(store, report(lease, OK, OK, OK, BAD))
    assert answer.advance is not None
    assert finish(store, answer.advance, status=StageStatus.COMPLETED_WITH_ERRORS).job_updated
    explanation = explain(store, job)
    assert explanation.kinds == [FindingKind.JOB_COMPLETED, FindingKind.TASK_FAILED]
    assert explanation.findings[0].text.endswith(" though 1 task failed, which its policy allows")


def test_an_unknown_job_is_an_error(store: MovableStore) -> None:
    """There is nothing to explain."""
    with pytest.raises(JobNotFoundError, match="there is no job"):
        explain(store)
