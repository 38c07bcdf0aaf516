"""One lock order, range, stage, job; isolation refused; nobody waits for what it must not wait for."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Final, LiteralString, Self

import psycopg
import pytest
from psycopg import sql

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.advancement import AdvanceOutcome, StageAdvancementResult
from stageflow.contracts.job import JobCompletionResult, JobEnding, JobUpdate, NewJob
from stageflow.contracts.lease import ClaimAnswer, ClaimOutcome, HeldLease, TaskCompletionResult, WorkKind
from stageflow.contracts.limits import TaskTypeLimit
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import IsolationLevelError, StageflowError, StoreError
from stageflow.testing.conformance.builders import (
    TASK_TYPE,
    advance,
    all_types,
    ask,
    cancel,
    chunk,
    claim_one,
    complete_ok,
    complete_one,
    control_type,
    create,
    finish,
    give_back,
    name_claim,
    new_job,
    new_stage,
    pause,
    recover,
    report,
    run_all,
    start,
    tasks_type,
)

_JOB: Final = new_job(stages=2)
_PATIENCE_SECONDS: Final = 30.0
_ONE_WAITS: Final = "select count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


def _limit(max_running: int, max_per_second: float | None = None) -> TaskTypeLimit:
    return TaskTypeLimit(job_type=_JOB.job_type, task_type=TASK_TYPE, max_running=max_running, max_per_second=max_per_second)


def _all_rows(table: LiteralString, lock: LiteralString) -> sql.Composed:
    return sql.SQL("select 1 from {} {}").format(sql.Identifier("stageflow", table), sql.SQL(lock))


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def rival(postgres_dsn: str) -> Iterator[psycopg.Connection]:
    """Give a connection that holds what a test locks with it."""
    with psycopg.connect(postgres_dsn) as connection:
        yield connection
        connection.rollback()


class _Waiting:
    """A call that waits for a lock which ``rival`` holds on a table."""

    def __init__(self, dsn: str, rival: psycopg.Connection, table: LiteralString, call: Callable[[], object]) -> None:
        self._dsn = dsn
        self._rival = rival
        rival.execute(_all_rows(table, "for update"))
        self._threads = ThreadPoolExecutor(1)
        self._call: Future[object] = self._threads.submit(call)

    def __enter__(self) -> Self:
        deadline = monotonic() + _PATIENCE_SECONDS
        with psycopg.connect(self._dsn, autocommit=True) as watcher:
            while watcher.execute(_ONE_WAITS).fetchone() != (True,):
                assert monotonic() < deadline, "the call does not wait"
                assert not self._call.done(), f"the call went through: {self._call.result()}"
        return self

    def holds(self, table: LiteralString) -> bool:
        """Whether somebody has rows of a table locked."""
        with psycopg.connect(self._dsn) as watcher:
            try:
                watcher.execute(_all_rows(table, "for no key update nowait"))
            except psycopg.errors.LockNotAvailable:
                return True
            return False

    def __exit__(self, *_: object) -> None:
        self._rival.rollback()
        self._call.result(_PATIENCE_SECONDS)
        self._threads.shutdown()


def test_a_completion_holds_its_range_before_it_wants_the_stage(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """Range first, then the stage's counters; the job is not locked at all."""
    start(store, _JOB, 2)
    lease = claim_one(store, tasks_type(_JOB))
    with _Waiting(postgres_dsn, rival, "stages", lambda: complete_one(store, complete_ok(lease, 1))) as call:
        assert call.holds("ranges")
        assert not call.holds("jobs")


def test_an_advance_holds_range_and_stage_before_it_wants_the_job(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """Range, stage, job: in this order."""
    start(store, _JOB, 1)
    lease = run_all(store, _JOB)
    with _Waiting(postgres_dsn, rival, "jobs", lambda: advance(store, lease, new_stage(2))) as call:
        assert call.holds("ranges")
        assert call.holds("stages")


def test_the_end_of_a_job_holds_range_and_stage_before_it_wants_the_job(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """Range, stage, job: in this order."""
    job = new_job()
    start(store, job, 1)
    lease = run_all(store, job)
    with _Waiting(postgres_dsn, rival, "jobs", lambda: finish(store, lease)) as call:
        assert call.holds("ranges")
        assert call.holds("stages")


@pytest.mark.parametrize("status", [JobStatus.CANCELLED, JobStatus.FAILED])
def test_a_cancel_holds_ranges_and_stages_before_it_wants_the_job(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str, status: JobStatus
) -> None:
    """What goes against the stream of completions still locks in their order."""
    start(store, _JOB, 3)
    change = lambda: store.change_job_status(_JOB.job_id, status, JobUpdate())  # noqa: E731
    with _Waiting(postgres_dsn, rival, "jobs", change) as call:
        assert call.holds("ranges")
        assert call.holds("stages")


def test_a_pause_wants_the_job_alone(store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str) -> None:
    """A pause locks neither ranges nor stages, so that no completion waits for it."""
    start(store, _JOB, 3)
    with _Waiting(postgres_dsn, rival, "jobs", lambda: pause(store, _JOB)) as call:
        assert not call.holds("ranges")
        assert not call.holds("stages")


@pytest.mark.parametrize("table", ["stages", "jobs"])
def test_a_claim_of_tasks_waits_for_nobody(store: PostgresStore, rival: psycopg.Connection, table: LiteralString) -> None:
    """Neither a busy stage row nor a job that is being changed holds a claim of its tasks up."""
    start(store, _JOB, 3)
    rival.execute(_all_rows(table, "for update"))
    assert ask(store, tasks_type(_JOB)).leases


def test_a_resume_passes_over_held_work_that_is_locked(store: PostgresStore, rival: psycopg.Connection) -> None:
    """Who holds a held range may wait for the job, so a resume does not wait for him; recovery opens what was left."""
    start(store, _JOB, 3)
    pause(store, _JOB)
    ask(store, *all_types(_JOB))
    rival.execute("select 1 from stageflow.ranges for update")
    store.change_job_status(_JOB.job_id, JobStatus.PROCESSING, JobUpdate())
    assert not ask(store, *all_types(_JOB)).leases
    rival.rollback()
    assert store.recover(expired=None, death_budget=3, limit=10).due == 1
    assert ask(store, *all_types(_JOB)).leases


def _hold_past_the_end(store: PostgresStore, rival: psycopg.Connection) -> None:
    """Leave the held work of a paused job in it, because somebody had it in hand when the job was cancelled."""
    start(store, _JOB, 3)
    pause(store, _JOB)
    assert ask(store, *all_types(_JOB)).leases == []
    rival.execute("select 1 from stageflow.ranges for update")
    cancel(store, _JOB)
    rival.rollback()
    (stage,) = store.list_stages(_JOB.job_id, 1)
    assert (stage.remaining, stage.cancelled_tasks) == (3, 0)


def test_held_work_that_outlived_its_job_is_closed_however_long_ago_that_was(
    store: PostgresStore, rival: psycopg.Connection
) -> None:
    """Recovery looks for what jobs that ended just now left ready; what is held it finds by itself."""
    _hold_past_the_end(store, rival)
    store.move_clock(3600.0)
    assert recover(store).closed == 1
    (stage,) = store.list_stages(_JOB.job_id, 1)
    assert (stage.remaining, stage.cancelled_tasks) == (0, 3)


def test_held_work_of_a_former_run_is_closed_while_the_present_one_is_paused(
    store: PostgresStore, rival: psycopg.Connection
) -> None:
    """The pause is of the present run; what a former one left behind has ended with it."""
    _hold_past_the_end(store, rival)
    assert store.resubmit_job(NewRun(job_id=_JOB.job_id, former_run=1, stages=(_JOB.first_stage,)))
    pause(store, _JOB)
    assert recover(store).closed == 1
    (stage,) = store.list_stages(_JOB.job_id, 1)
    assert (stage.remaining, stage.cancelled_tasks) == (0, 3)


def test_ready_work_that_outlived_its_job_is_closed_by_recovery(store: PostgresStore, rival: psycopg.Connection) -> None:
    """Nobody may ever claim it again; the next round finds it all the same."""
    start(store, _JOB, 3)
    rival.execute(_all_rows("ranges", "for update"))
    cancel(store, _JOB)
    rival.rollback()
    assert recover(store).closed == 1
    (stage,) = store.list_stages(_JOB.job_id, 1)
    assert (stage.remaining, stage.cancelled_tasks) == (0, 3)


def test_ready_work_of_a_halted_stage_is_closed_by_recovery(store: PostgresStore, rival: psycopg.Connection) -> None:
    """What somebody had in hand when the stage gave up is skipped later, and the stage can end."""
    job = new_job(first_stage=new_stage(1, fail_fast=True))
    start(store, job, 3, range_count=3)
    lease = claim_one(store, tasks_type(job))
    rival.execute("select 1 from stageflow.ranges where state = 'ready' for update")
    complete_one(store, report(lease, TaskStatus.FAILED))
    rival.rollback()
    assert recover(store).closed == 2
    (stage,) = store.list_stages(job.job_id, 1)
    assert (stage.remaining, stage.skipped_tasks) == (0, 2)


def test_recovery_leaves_a_paused_job_held(store: PostgresStore) -> None:
    """What waits for a resume is not opened by anything else."""
    start(store, _JOB, 3)
    pause(store, _JOB)
    assert ask(store, *all_types(_JOB)).leases == []
    assert (recover(store).due, recover(store).closed) == (0, 0)


def test_a_claim_that_meets_a_pause_and_a_resume_leaves_nothing_held(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """A claim that sees the pause waits for the operator; if he resumes, the work is leased, not held for ever."""
    start(store, _JOB, 3)
    pause(store, _JOB)
    with _Waiting(postgres_dsn, rival, "jobs", lambda: ask(store, *all_types(_JOB))):
        rival.execute("update stageflow.jobs set status = 'processing'")
        rival.commit()
    (task, *_) = store.list_tasks(_JOB.job_id, 1, 1, first_index=0, limit=1)
    assert task.status is TaskStatus.PROCESSING


def test_a_last_report_that_meets_a_pause_and_a_resume_leaves_nothing_held(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """A report that sees the pause waits for the operator; if he resumes, the advancement is its own, not held for ever."""
    start(store, _JOB, 1)
    lease = claim_one(store, tasks_type(_JOB))
    pause(store, _JOB)
    answers: list[TaskCompletionResult] = []
    with _Waiting(postgres_dsn, rival, "jobs", lambda: answers.append(complete_one(store, complete_ok(lease)))):
        rival.execute("update stageflow.jobs set status = 'processing'")
        rival.commit()
    assert answers[0].advance is not None


def test_a_first_claim_that_meets_a_pause_does_not_start_the_job(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """It found the job queued, and comes to its row when it is paused; what the operator said stays."""
    create(store, _JOB)
    with _Waiting(postgres_dsn, rival, "jobs", lambda: ask(store, control_type(_JOB))):
        rival.execute("update stageflow.jobs set status = 'paused'")
        rival.commit()
    assert store.get_jobs([_JOB.job_id])[0].status is JobStatus.PAUSED


def test_a_claim_of_planning_that_meets_a_cancellation_leaves_its_stage_closed(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """It found the stage pending, and comes to its row when it is closed; what is closed stays so."""
    create(store, _JOB)
    with _Waiting(postgres_dsn, rival, "stages", lambda: ask(store, control_type(_JOB))):
        rival.execute("update stageflow.stages set status = 'cancelled'")
        rival.execute("update stageflow.jobs set status = 'cancelled'")
        rival.commit()
    (stage,) = store.list_stages(_JOB.job_id, 1)
    assert stage.status is StageStatus.CANCELLED


def test_a_stage_that_opened_amid_a_cancellation_is_closed_by_its_planner(
    store: PostgresStore, rival: psycopg.Connection
) -> None:
    """The cancellation knew nothing of it; whoever plans it finds the job ended, and leaves no stage open in it."""
    create(store, _JOB)
    plan = claim_one(store, control_type(_JOB))
    rival.execute("update stageflow.jobs set status = 'cancelled'")
    rival.commit()
    assert store.add_tasks(chunk(plan, 1)) is PlanOutcome.JOB_ENDED
    assert store.list_stages(_JOB.job_id, 1)[0].status is StageStatus.CANCELLED


def test_a_stage_that_opened_amid_a_cancellation_is_closed_by_its_last_report(
    store: PostgresStore, rival: psycopg.Connection
) -> None:
    """Its tasks may still end; the last of them closes it in the place of an advancement."""
    start(store, _JOB, 1)
    lease = claim_one(store, tasks_type(_JOB))
    rival.execute("update stageflow.jobs set status = 'cancelled'")
    rival.commit()
    answer = complete_one(store, complete_ok(lease))
    assert (answer.remaining_tasks, answer.is_last_task_in_stage, answer.advance) == (0, False, None)
    assert store.list_stages(_JOB.job_id, 1)[0].status is StageStatus.CANCELLED


def test_planning_that_a_cancellation_passed_over_ends_with_its_next_claim(
    store: PostgresStore, rival: psycopg.Connection
) -> None:
    """Whoever had it in hand was not waited for; it is gone without a trace in the counts, for it was no task."""
    create(store, _JOB)
    rival.execute(_all_rows("ranges", "for update"))
    cancel(store, _JOB)
    rival.rollback()
    assert ask(store, control_type(_JOB)).leases == []
    (stage,) = store.list_stages(_JOB.job_id, 1)
    assert (stage.remaining, stage.cancelled_tasks, stage.status) == (0, 0, StageStatus.CANCELLED)


def _claim_tasks(store: PostgresStore, job: NewJob) -> ClaimAnswer:
    return ask(store, tasks_type(job))


def _claim_by_name(store: PostgresStore, job: NewJob) -> ClaimAnswer:
    return store.claim_named(name_claim(job, WorkKind.TASK, last=3))


def test_a_plan_that_meets_a_pause_and_a_resume_is_recorded(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """A planner that sees the pause waits for the operator, range and stage in its hand; if he resumes, it goes on."""
    create(store, _JOB)
    plan = claim_one(store, control_type(_JOB))
    pause(store, _JOB)
    answers: list[PlanOutcome] = []
    with _Waiting(postgres_dsn, rival, "jobs", lambda: answers.append(store.add_tasks(chunk(plan, 1)))) as call:
        assert call.holds("ranges")
        assert call.holds("stages")
        rival.execute("update stageflow.jobs set status = 'processing'")
        rival.commit()
    assert answers == [PlanOutcome.RECORDED]


@pytest.mark.parametrize(("claim", "outcome"), [(_claim_tasks, ClaimOutcome.BUSY), (_claim_by_name, ClaimOutcome.DONE)])
def test_a_halt_passes_over_tasks_that_are_locked(
    store: PostgresStore,
    rival: psycopg.Connection,
    claim: Callable[[PostgresStore, NewJob], ClaimAnswer],
    outcome: ClaimOutcome,
) -> None:
    """The report that halts the stage does not wait for who has tasks of it in hand; the next claim of them closes them."""
    job = new_job(first_stage=new_stage(1, fail_fast=True))
    start(store, job, 3, range_count=3)
    lease = claim_one(store, tasks_type(job))
    rival.execute("select 1 from stageflow.ranges where state = 'ready' for update")
    report_of_it = complete_one(store, report(lease, TaskStatus.FAILED))
    assert (report_of_it.stage_halted, report_of_it.remaining_tasks) == (True, 2)
    rival.rollback()
    answer = claim(store, job)
    assert (answer.outcome, answer.leases) == (outcome, [])  # busy, for what it closed may have opened the advancement
    assert store.list_stages(job.job_id, 1)[0].remaining == 0
    assert ask(store, control_type(job)).leases


def test_a_named_claim_passes_over_work_that_is_locked(store: PostgresStore, rival: psycopg.Connection) -> None:
    """Two messages of the same work lease it once; who comes second is told to come again, and does not wait."""
    start(store, _JOB, 3)
    rival.execute(_all_rows("ranges", "for update"))
    answer = _claim_by_name(store, _JOB)
    assert (answer.outcome, answer.leases) == (ClaimOutcome.BUSY, [])
    rival.rollback()
    assert _claim_by_name(store, _JOB).outcome is ClaimOutcome.WORK


@pytest.mark.parametrize("table", ["limits", "slots", "stages", "jobs"])
def test_a_claim_of_limited_tasks_waits_for_nobody(
    store: PostgresStore, rival: psycopg.Connection, table: LiteralString
) -> None:
    """Whoever holds a limit or its slots is passed over, and the answer says when to look again."""
    start(store, _JOB, 3)
    store.limit_task_type(_limit(2, 50.0))
    rival.execute(_all_rows(table, "for update"))
    answer = ask(store, tasks_type(_JOB), max_tasks=1)
    if table in {"limits", "slots"}:
        assert (answer.leases, answer.outcome) == ([], ClaimOutcome.EMPTY)
        assert answer.next_due_seconds is not None
        rival.rollback()
    assert ask(store, tasks_type(_JOB), max_tasks=1).leases or answer.leases


def test_a_claim_does_not_look_at_work_of_a_paused_type(store: PostgresStore, rival: psycopg.Connection) -> None:
    """Whoever has it in hand keeps nobody busy: there is nothing to come again for before the type is resumed."""
    start(store, _JOB, 3)
    store.pause_task_type(_JOB.job_type, TASK_TYPE)
    rival.execute(_all_rows("ranges", "for update"))
    assert ask(store, tasks_type(_JOB)).outcome is ClaimOutcome.EMPTY


@pytest.mark.parametrize("table", ["limits", "slots"])
def test_the_end_of_a_limited_lease_waits_for_nobody(
    store: PostgresStore, rival: psycopg.Connection, table: LiteralString
) -> None:
    """A slot is free because its lease is gone, so that no completion, return or heartbeat touches it."""
    start(store, _JOB, 4)
    store.limit_task_type(_limit(3))
    first, second, third = (claim_one(store, tasks_type(_JOB), max_tasks=1) for _ in range(3))
    rival.execute(_all_rows(table, "for update"))
    assert complete_one(store, complete_ok(first)).task_updated
    assert store.return_ranges([give_back(second)]) == [True]
    held = [HeldLease(range_id=third.range_id, token=third.token, current_index=third.first)]
    assert store.extend_leases("ada", held, 30.0).held == [third.token]
    assert store.recover(expired=store.list_leases(10), death_budget=3, limit=10).returned == 1


def test_a_limit_is_set_without_a_wait_for_work_that_is_held(store: PostgresStore, rival: psycopg.Connection) -> None:
    """Neither a claim nor a report that is under way holds an operator up; their leases are counted all the same."""
    start(store, _JOB, 3)
    claim_one(store, tasks_type(_JOB), max_tasks=1)
    for table in ("ranges", "stages", "jobs"):
        rival.execute(_all_rows(table, "for update"))
    store.limit_task_type(_limit(1))
    store.pause_task_type(_JOB.job_type, TASK_TYPE)
    store.resume_task_type(_JOB.job_type, TASK_TYPE)
    rival.rollback()
    assert ask(store, tasks_type(_JOB), max_tasks=1).leases == []


def test_a_limit_holds_its_scope_before_it_wants_the_slots(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """Scope first, then its slots, as a claim does; it holds no range, on which completions would wait."""
    start(store, _JOB, 3)
    store.limit_task_type(_limit(2))
    with _Waiting(postgres_dsn, rival, "slots", lambda: store.limit_task_type(_limit(3))) as call:
        assert call.holds("limits")
        assert not call.holds("ranges")


@pytest.mark.parametrize("table", ["ranges", "stages"])
def test_a_resubmission_waits_for_no_work_of_the_former_run(
    store: PostgresStore, rival: psycopg.Connection, table: LiteralString
) -> None:
    """It takes the job's row alone, so that who reports late, bottom up, never meets it halfway."""
    start(store, _JOB, 3)
    claim_one(store, tasks_type(_JOB), max_tasks=1)
    cancel(store, _JOB)
    rival.execute(_all_rows(table, "for update"))
    job = store.resubmit_job(NewRun(job_id=_JOB.job_id, former_run=1, stages=(_JOB.first_stage,)))
    assert job is not None
    assert job.run == 2


def test_a_cancellation_that_meets_a_resubmission_is_told_to_be_called_again(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """It looked at the run that had ended; it writes nothing, rather than to cancel half of another."""
    start(store, _JOB, 3)
    cancel(store, _JOB)
    other = PostgresStore(postgres_dsn)
    rival.execute("select 1 from stageflow.stages for update")
    threads = ThreadPoolExecutor(1)
    late = threads.submit(lambda: other.change_job_status(_JOB.job_id, JobStatus.CANCELLED, JobUpdate()))
    with psycopg.connect(postgres_dsn, autocommit=True) as watcher:
        deadline = monotonic() + _PATIENCE_SECONDS
        while watcher.execute(_ONE_WAITS).fetchone() != (True,):
            assert monotonic() < deadline, "the cancellation does not wait"
    assert store.resubmit_job(NewRun(job_id=_JOB.job_id, former_run=1, stages=(_JOB.first_stage,))) is not None
    rival.rollback()
    with pytest.raises(StoreError, match=r"was resubmitted just now.*call again"):
        late.result(_PATIENCE_SECONDS)
    threads.shutdown()
    other.close()
    assert store.get_jobs([_JOB.job_id])[0].status is JobStatus.QUEUED


def test_an_advancement_that_meets_a_cancellation_moves_nothing(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """It comes to the job when that has ended, and does not revive it."""
    start(store, _JOB, 1)
    lease = run_all(store, _JOB)
    answers: list[StageAdvancementResult] = []
    with _Waiting(postgres_dsn, rival, "jobs", lambda: answers.append(advance(store, lease, new_stage(2)))):
        rival.execute("update stageflow.jobs set status = 'cancelled'")
        rival.commit()
    assert answers[0].outcome is AdvanceOutcome.JOB_ENDED
    assert store.get_jobs([_JOB.job_id])[0].status is JobStatus.CANCELLED


def test_the_end_of_a_job_that_meets_a_cancellation_ends_nothing(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """Who completes a job finds it cancelled, and leaves it so."""
    job = new_job()
    start(store, job, 1)
    lease = run_all(store, job)
    answers: list[JobCompletionResult] = []
    with _Waiting(postgres_dsn, rival, "jobs", lambda: answers.append(finish(store, lease))):
        rival.execute("update stageflow.jobs set status = 'cancelled'")
        rival.commit()
    assert not answers[0].job_updated
    assert store.get_jobs([job.job_id])[0].status is JobStatus.CANCELLED


def test_a_failure_that_meets_a_cancellation_ends_nothing(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """Who fails a job by its lease holds that and the stages before it wants the job, and leaves an ended one as it is."""
    create(store, _JOB)
    plan = claim_one(store, control_type(_JOB))
    ending = JobEnding(
        job_id=_JOB.job_id, status=JobStatus.FAILED, error_details="no plan", range_id=plan.range_id, token=plan.token
    )
    answers: list[bool] = []
    with _Waiting(postgres_dsn, rival, "jobs", lambda: answers.append(store.end_job(ending))) as call:
        assert call.holds("ranges")
        assert call.holds("stages")
        rival.execute("update stageflow.jobs set status = 'cancelled'")
        rival.commit()
    assert answers == [False]
    assert store.get_jobs([_JOB.job_id])[0].status is JobStatus.CANCELLED


def test_a_pause_that_meets_a_cancellation_is_refused(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """It comes to the job when that has ended, which no pause undoes."""
    start(store, _JOB, 1)

    def be_refused() -> None:
        with pytest.raises(StageflowError, match="cannot become paused"):
            pause(store, _JOB)

    with _Waiting(postgres_dsn, rival, "jobs", be_refused):
        rival.execute("update stageflow.jobs set status = 'cancelled'")
        rival.commit()
    assert store.get_jobs([_JOB.job_id])[0].status is JobStatus.CANCELLED


def test_a_resubmission_that_meets_another_is_refused(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """It comes to the job when that is queued again, in a run that is not its own."""
    start(store, _JOB, 1)
    cancel(store, _JOB)

    def be_refused() -> None:
        with pytest.raises(StageflowError, match="cannot be resubmitted"):
            store.resubmit_job(NewRun(job_id=_JOB.job_id, former_run=1, stages=(_JOB.first_stage,)))

    with _Waiting(postgres_dsn, rival, "jobs", be_refused):
        rival.execute("update stageflow.jobs set status = 'queued', run = 2")
        rival.commit()


def test_a_heartbeat_waits_for_a_report_of_the_same_range(
    store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str
) -> None:
    """A lease that is being reported is not taken for lost."""
    start(store, _JOB, 3)
    lease = claim_one(store, tasks_type(_JOB))
    held = [HeldLease(range_id=lease.range_id, token=lease.token, current_index=0)]
    answers = []
    with _Waiting(postgres_dsn, rival, "ranges", lambda: answers.append(store.extend_leases("ada", held, 30.0))):
        pass
    assert answers[0].held == [lease.token]


def test_a_return_that_meets_a_recovery_is_refused(store: PostgresStore, rival: psycopg.Connection, postgres_dsn: str) -> None:
    """It waits for who has the range, and finds that it is no longer its own to give back."""
    start(store, _JOB, 3)
    lease = claim_one(store, tasks_type(_JOB))
    answers: list[list[bool]] = []
    with _Waiting(postgres_dsn, rival, "ranges", lambda: answers.append(store.return_ranges([give_back(lease, 1)]))):
        rival.execute("update stageflow.ranges set state = 'ready', token = null, worker_id = null, lease_expires_at = null")
        rival.commit()
    assert answers == [[False]]


def test_a_transaction_that_is_not_read_committed_is_refused(store: PostgresStore, postgres_dsn: str) -> None:
    """At REPEATABLE READ nobody would be told that he was last; the error says what to set, and nothing was written."""
    with psycopg.connect(postgres_dsn) as application:
        application.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with pytest.raises(IsolationLevelError, match=r"REPEATABLE READ.*Set the connection's isolation level"):
            store.create_jobs([_JOB], connection=application)
        application.rollback()
    assert store.get_jobs([_JOB.job_id]) == []


def test_the_stores_own_connections_are_read_committed_whatever_the_database_says(
    store: PostgresStore, postgres_dsn: str
) -> None:
    """A database whose default is stricter does not stop the store."""
    with psycopg.connect(postgres_dsn, autocommit=True) as operator:
        name = operator.info.dbname
        operator.execute(
            sql.SQL("alter database {} set default_transaction_isolation = 'serializable'").format(sql.Identifier(name))
        )
    other = PostgresStore(postgres_dsn)
    create(other, _JOB)
    other.close()
    assert ask(store, control_type(_JOB)).leases
