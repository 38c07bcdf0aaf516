"""Deadlines: by the store's clock a late job fails once, whole, and for good; nothing else does."""

from datetime import timedelta

from stageflow.contracts.deadline import Overdue, OverdueEnding
from stageflow.contracts.job import NewJob
from stageflow.contracts.lease import CompletionOutcome, HeldLease
from stageflow.contracts.repair import StageRepair
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    MovableStore,
    advance,
    all_types,
    ask,
    cancel,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    finish,
    new_job,
    new_stage,
    pause,
    plan_all,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import check_partition, get_job, get_stage, get_statuses


def due_in(store: MovableStore, seconds: float, *, name: str = "job", stages: int = 1) -> NewJob:
    """Return a job that is to end so many seconds from now."""
    return new_job(name, stages=stages).model_copy(update={"deadline": store.now() + timedelta(seconds=seconds)})


def timed(seconds: float, *, name: str = "job") -> NewJob:
    """Return a job with so many seconds from its start."""
    return new_job(name).model_copy(update={"timeout_seconds": seconds})


def end_late(store: MovableStore, job: NewJob, *, run: int = 1) -> bool:
    """Ask for a late job's end."""
    return store.end_overdue(OverdueEnding(job_id=job.job_id, run=run, error_details="too late"))


class DeadlineConformance:
    """The promises of ``DeadlineStore``."""

    def test_a_deadline_is_kept_with_the_job(self, store: MovableStore) -> None:
        """What was asked for is read back from every view of a job, to the microsecond."""
        job = due_in(store, 60).model_copy(update={"timeout_seconds": 2.5})
        create(store, job)
        listed = store.list_jobs(status=None, job_type=None, id_prefix="", limit=10, after=None)
        for seen in (get_job(store, job), store.get_job_states([job.job_id])[0].job, *listed):
            assert (seen.deadline, seen.timeout_seconds) == (job.deadline, 2.5)

    def test_a_job_is_late_by_the_stores_clock_alone(self, store: MovableStore) -> None:
        """Before its deadline a job cannot be ended for it; after, it is listed, and fails with what it is told."""
        job = due_in(store, 60)
        create(store, job, new_job("without"))
        assert store.list_overdue(10) == []
        assert not end_late(store, job)
        store.move_clock(61)
        assert job.deadline is not None
        assert store.list_overdue(10) == [Overdue(job_id=job.job_id, run=1, deadline=job.deadline)]
        assert end_late(store, job)
        assert not end_late(store, job)
        assert not end_late(store, new_job("without"))
        assert store.list_overdue(10) == []
        ended = get_job(store, job)
        assert (ended.status, ended.error_details, ended.deadline) == (JobStatus.FAILED, "too late", job.deadline)

    def test_the_list_of_late_jobs_is_as_long_as_asked(self, store: MovableStore) -> None:
        """The earliest deadlines come first."""
        jobs = [due_in(store, 10 * (3 - place), name=f"job {place}") for place in range(3)]
        create(store, *jobs)
        store.move_clock(100)
        assert [late.job_id for late in store.list_overdue(2)] == [jobs[2].job_id, jobs[1].job_id]

    def test_what_waits_of_a_late_job_is_closed_and_what_runs_is_told(self, store: MovableStore) -> None:
        """Waiting tasks are cancelled, the holder of a lease is told to stop, its late result counts, and nothing advances."""
        job = due_in(store, 60, stages=2)
        start(store, job, 3)
        lease = claim_one(store, tasks_type(job), max_tasks=1)
        store.move_clock(61)
        assert end_late(store, job)
        held = HeldLease(range_id=lease.range_id, token=lease.token, current_index=0)
        assert store.extend_leases("ada", [held], LEASE_SECONDS).stopping == [lease.token]
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED
        assert get_statuses(store, job) == [TaskStatus.COMPLETED, TaskStatus.CANCELLED, TaskStatus.CANCELLED]
        assert ask(store, *all_types(job)).leases == []
        assert (get_job(store, job).status, get_stage(store, job).status) == (JobStatus.FAILED, StageStatus.CANCELLED)
        check_partition(store, job)

    def test_a_timeout_counts_from_the_start_of_the_job(self, store: MovableStore) -> None:
        """A job that waits in the queue is not late; with its first claim its time begins."""
        job = timed(60)
        create(store, job)
        store.move_clock(1000)
        assert store.list_overdue(10) == []
        claim_plan(store, job)
        begun = get_job(store, job)
        assert begun.deadline is not None
        assert timedelta(0) <= begun.deadline - store.now() <= timedelta(seconds=60)
        store.move_clock(61)
        assert [late.deadline for late in store.list_overdue(10)] == [begun.deadline]
        assert end_late(store, job)

    def test_of_a_deadline_and_a_timeout_the_earlier_one_counts(self, store: MovableStore) -> None:
        """Neither takes the other away."""
        early = due_in(store, 60, name="early").model_copy(update={"timeout_seconds": 1000})
        late = due_in(store, 1000, name="late").model_copy(update={"timeout_seconds": 60})
        create(store, early, late)
        assert len(claim_all(store, *all_types(early))) == 2
        assert get_job(store, early).deadline == early.deadline
        assert late.deadline is not None
        assert (get_job(store, late).deadline or late.deadline) < late.deadline

    def test_paused_time_counts(self, store: MovableStore) -> None:
        """A pause stops no clock: a paused job is late like any other."""
        job = due_in(store, 60)
        start(store, job, 2)
        pause(store, job)
        store.move_clock(61)
        assert len(store.list_overdue(10)) == 1
        assert end_late(store, job)
        check_partition(store, job)

    def test_a_job_that_ended_in_time_is_never_late(self, store: MovableStore) -> None:
        """The deadline of an ended job means nothing any more."""
        job = due_in(store, 60)
        create(store, job)
        cancel(store, job)
        store.move_clock(61)
        assert store.list_overdue(10) == []
        assert not end_late(store, job)
        assert get_job(store, job).status is JobStatus.CANCELLED

    def test_a_new_run_has_a_deadline_of_its_own(self, store: MovableStore) -> None:
        """The former deadline is gone, the timeout counts from the new start, and the former run's lateness ends nothing."""
        job = due_in(store, 60).model_copy(update={"timeout_seconds": 500})
        create(store, job)
        store.move_clock(61)
        assert end_late(store, job)
        new_run = NewRun(job_id=job.job_id, former_run=1, stages=(new_stage(1),))
        assert store.resubmit_job(new_run) is not None
        again = get_job(store, job)
        assert (again.deadline, again.timeout_seconds) == (None, 500)
        assert store.list_overdue(10) == []
        assert not end_late(store, job)
        claim_plan(store, job)
        store.move_clock(501)
        assert not end_late(store, job)
        assert end_late(store, job, run=2)

    def test_a_repair_has_no_deadline(self, store: MovableStore) -> None:
        """That of the former run has passed, or soon will; the tasks that are mended are not hurried by it."""
        job = due_in(store, 60)
        start(store, job, 1)
        assert finish(store, run_all(store, job)).job_updated
        record = store.repair_stage(StageRepair(job_id=job.job_id, former_run=1, stage=job.first_stage, tasks=(0,)))
        assert record is not None
        assert record.deadline is None

    def test_a_resubmission_may_bring_a_deadline(self, store: MovableStore) -> None:
        """What it says replaces what was."""
        job = timed(500)
        create(store, job)
        cancel(store, job)
        deadline = store.now() + timedelta(seconds=30)
        store.resubmit_job(
            NewRun(job_id=job.job_id, former_run=1, stages=(new_stage(1),), deadline=deadline, timeout_seconds=7)
        )
        again = get_job(store, job)
        assert (again.deadline, again.timeout_seconds) == (deadline, 7)

    def test_a_stage_is_late_when_its_own_time_is_over(self, store: MovableStore) -> None:
        """The time begins with the planning, once; the job fails, though it has no deadline itself."""
        job = new_job(stages=2)
        create(store, job)
        plan = claim_plan(store, job)
        assert store.start_stage_clock(plan.range_id, plan.token, 60)
        deadline = get_stage(store, job).deadline
        assert deadline is not None
        store.move_clock(30)
        assert store.start_stage_clock(plan.range_id, plan.token, 60)
        assert get_stage(store, job).deadline == deadline
        assert not store.start_stage_clock(plan.range_id, plan.token + 1, 60)
        assert store.list_overdue(10) == []
        assert not end_late(store, job)
        store.move_clock(31)
        assert store.list_overdue(10) == [Overdue(job_id=job.job_id, run=1, stage_number=1, deadline=deadline)]
        assert end_late(store, job)
        assert get_job(store, job).status is JobStatus.FAILED
        assert store.list_overdue(10) == []

    def test_a_stage_that_closed_in_time_is_never_late(self, store: MovableStore) -> None:
        """Its time does not go on with the stages after it."""
        job = new_job(stages=2)
        create(store, job)
        plan = claim_plan(store, job)
        store.start_stage_clock(plan.range_id, plan.token, 60)
        store.add_tasks(chunk(plan, 1))
        advance(store, run_all(store, job), new_stage(2))
        store.move_clock(61)
        assert store.list_overdue(10) == []
        assert not end_late(store, job)

    def test_many_ends_of_a_late_job_are_one(self, store: MovableStore) -> None:
        """However many look at the same time, one ends the job."""
        job = due_in(store, 60)
        plan_all(store, _created(store, job), 5)
        store.move_clock(61)
        answers = crowd(6, lambda _: end_late(store, job))
        assert sorted(answers) == [False] * 5 + [True]
        check_partition(store, job)


def _created(store: MovableStore, job: NewJob) -> NewJob:
    create(store, job)
    return job
