"""The history of a job: what happened to it is told once, with the change, and never by the number of its tasks."""

from typing import Final

import pytest

from stageflow.contracts.event import BEFORE_ALL, DETAIL_LENGTH, EventKind, JobEvent
from stageflow.contracts.job import JobRecord, NewJob
from stageflow.contracts.lease import CompletionOutcome, RangeReturn
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import StageflowError
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    Again,
    MovableStore,
    advance,
    ask,
    cancel,
    chunk,
    claim_advance,
    claim_all,
    claim_one,
    claim_plan,
    complete_ok,
    complete_one,
    create,
    finish,
    let_leases_expire,
    new_job,
    new_stage,
    pause,
    report,
    resume,
    run_all,
    set_status,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import fail_with
from stageflow.testing.conformance.repair import repair
from stageflow.testing.conformance.resubmission import resubmit
from stageflow.testing.conformance.retention import purge
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)
_TWO: Final = new_job("two", stages=2)
_STRICT: Final = new_job("strict", first_stage=new_stage(1, fail_fast=True))
_DAY: Final = 86_400.0


def events_of(store: MovableStore, job: NewJob | JobRecord) -> list[JobEvent]:
    """Return the whole history of a job."""
    return store.list_events(job.job_id, after=BEFORE_ALL, limit=1000)


def kinds_of(store: MovableStore, job: NewJob | JobRecord) -> list[EventKind]:
    """Return what happened to a job, in order."""
    return [event.kind for event in events_of(store, job)]


def only(store: MovableStore, job: NewJob, kind: EventKind) -> JobEvent:
    """Return the one event of a kind."""
    (event,) = [event for event in events_of(store, job) if event.kind is kind]
    return event


def _complete_two(store: MovableStore, job: NewJob, count: int) -> None:
    start(store, job, count, range_count=3)
    answer = advance(store, run_all(store, job), new_stage(2))
    assert answer.plan is not None
    store.add_tasks(chunk(answer.plan, count))
    assert finish(store, run_all(store, job)).job_updated


class HistoryConformance(StoreScenarios):
    """The history of jobs that go well, and how it is read."""

    def test_a_job_that_succeeds_tells_of_its_stages_in_order(self, store: MovableStore) -> None:
        """Each stage is opened, planned and closed, and the end is told last."""
        _complete_two(store, _TWO, 4)
        events = events_of(store, _TWO)
        assert [(event.kind, event.stage_number, event.status) for event in events] == [
            (EventKind.JOB_SUBMITTED, None, None),
            (EventKind.STAGE_OPENED, 1, None),
            (EventKind.STAGE_PLANNED, 1, None),
            (EventKind.STAGE_CLOSED, 1, "completed"),
            (EventKind.STAGE_OPENED, 2, None),
            (EventKind.STAGE_PLANNED, 2, None),
            (EventKind.STAGE_CLOSED, 2, "completed"),
            (EventKind.JOB_ENDED, None, "completed"),
        ]
        planned = events[2]
        assert (planned.first, planned.last, planned.tasks, planned.worker_id) == (0, 4, 4, "ada")
        assert {event.job_id for event in events} == {_TWO.job_id}
        assert {event.run for event in events} == {1}
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert events[-1].at <= store.now()

    def test_the_number_of_tasks_does_not_lengthen_a_history(self, store: MovableStore) -> None:
        """Ten tasks and a thousand leave as many events, whatever was claimed and reported."""
        few, many = new_job("few"), new_job("many")
        for job, count in ((few, 10), (many, 1000)):
            start(store, job, count, range_count=10)
            finish(store, run_all(store, job))
        assert kinds_of(store, few) == kinds_of(store, many)
        assert len(kinds_of(store, many)) == 5

    def test_a_submission_is_told_before_anything_else_happens(self, store: MovableStore) -> None:
        """A job that waits has a history of its submission and its first stage, and another job has its own."""
        create(store, _JOB, _TWO)
        assert kinds_of(store, _JOB) == [EventKind.JOB_SUBMITTED, EventKind.STAGE_OPENED]
        assert [event.at for event in events_of(store, _TWO)] == [store.list_stages(_TWO.job_id, 1)[0].created_at] * 2
        assert store.list_events(new_job("nobody").job_id, after=BEFORE_ALL, limit=10) == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 8, 1000])
    def test_pages_add_up_to_the_history(self, store: MovableStore, limit: int) -> None:
        """Read by pages of any length, each event comes once, in the same order."""
        _complete_two(store, _TWO, 2)
        pages: list[JobEvent] = []
        while page := store.list_events(_TWO.job_id, after=pages[-1].event_id if pages else BEFORE_ALL, limit=limit):
            assert len(page) <= limit
            pages += page
        assert pages == events_of(store, _TWO)
        assert [event.event_id for event in pages] == sorted({event.event_id for event in pages})

    def test_skipped_stages_are_told_as_closed(self, store: MovableStore) -> None:
        """A stage that never opens is in the history all the same."""
        job = new_job("skipping", stages=3)
        start(store, job, 1)
        answer = advance(store, run_all(store, job), new_stage(2, skipped=True), new_stage(3))
        assert answer.plan is not None
        told = [(event.kind, event.stage_number, event.status) for event in events_of(store, job)][-2:]
        assert told == [(EventKind.STAGE_CLOSED, 2, StageStatus.SKIPPED), (EventKind.STAGE_OPENED, 3, None)]

    def test_a_purge_takes_the_history_with_the_job(self, store: MovableStore) -> None:
        """Nothing is left of a purged job; a dry run and other jobs keep theirs."""
        _complete_two(store, _TWO, 2)
        start(store, _JOB, 1)
        store.move_clock(_DAY)
        assert purge(store, dry_run=True).size_bytes == purge(store).size_bytes > 0
        assert events_of(store, _TWO) == []
        assert EventKind.STAGE_PLANNED in kinds_of(store, _JOB)


class TaskHistoryConformance(StoreScenarios):
    """What the history tells of tasks that did not simply succeed."""

    def test_failures_of_a_report_are_one_event_with_the_first_error(self, store: MovableStore) -> None:
        """However many tasks of a report fail, their extent, number and first error are told once."""
        start(store, _JOB, 5)
        complete_one(store, report(claim_one(store, _TASKS), OK, BAD, OK, BAD, OK))
        event = only(store, _JOB, EventKind.TASKS_FAILED)
        assert (event.first, event.last, event.tasks, event.attempt) == (1, 4, 2, 1)
        assert (event.worker_id, event.detail, event.stage_number) == ("ada", "task 1 is failed", 1)

    def test_long_errors_are_cut(self, store: MovableStore) -> None:
        """A history stays small, whatever handlers raise; the end is kept, where a traceback names the error."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again(0.0, "Traceback: " + "é" * 2000)))
        assert only(store, _JOB, EventKind.TASKS_RETRIED).detail == "é" * DETAIL_LENGTH

    def test_retries_of_a_report_are_one_event(self, store: MovableStore) -> None:
        """Each with its own delay, they are several ranges and one event; the attempt told is the one that failed."""
        start(store, _JOB, 4)
        complete_one(store, report(claim_one(store, _TASKS), OK, Again(1.0, "first"), Again(2.0, "second"), OK))
        event = only(store, _JOB, EventKind.TASKS_RETRIED)
        assert (event.first, event.last, event.tasks, event.attempt, event.detail) == (1, 3, 2, 1, "first")
        assert event.worker_id == "ada"

    def test_a_recovered_lease_names_its_worker(self, store: MovableStore) -> None:
        """Who died with a range, and the deaths on a task that ran alone, up to the one that was too many."""
        start(store, _JOB, 2)
        claim_one(store, _TASKS, worker="grace")
        let_leases_expire(store)
        for worker in ("alan", "kurt"):
            lease = claim_one(store, _TASKS, worker=worker)
            assert lease.last - lease.first == 1
            let_leases_expire(store, death_budget=2)
        told = [event for event in events_of(store, _JOB) if event.worker_id in {"grace", "alan", "kurt"}]
        assert [(event.kind, event.worker_id, event.tasks) for event in told] == [
            (EventKind.TASKS_RECOVERED, "grace", 2),
            (EventKind.TASKS_RECOVERED, "alan", 1),
            (EventKind.TASK_QUARANTINED, "kurt", 1),
        ]
        assert [event.detail for event in told[1:]] == [
            "workers that died while they ran it alone: 1",
            "workers that died while they ran it alone: 2",
        ]

    def test_a_stale_report_is_told_and_a_repeated_one_is_not(self, store: MovableStore) -> None:
        """Work that was done in vain is in the history, with its worker; a report that is there already is not."""
        start(store, _JOB, 2)
        late = claim_one(store, _TASKS)
        let_leases_expire(store)
        assert complete_one(store, complete_ok(late), worker="late").outcome is CompletionOutcome.STALE
        event = only(store, _JOB, EventKind.STALE_REPORT)
        assert (event.first, event.last, event.tasks, event.worker_id) == (0, 2, 2, "late")
        (lease, _) = claim_all(store, _TASKS)
        complete_one(store, complete_ok(lease))
        before = events_of(store, _JOB)
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.ALREADY_RECORDED
        assert events_of(store, _JOB) == before

    def test_what_an_operator_does_to_a_task_is_told(self, store: MovableStore) -> None:
        """Its new status, the reason, and who lost the lease; a refused change is no event."""
        start(store, _JOB, 3)
        claim_one(store, _TASKS, worker="grace")
        assert store.close_task(_JOB.job_id, 1, 1, TaskStatus.SKIPPED, "not needed")
        event = only(store, _JOB, EventKind.TASK_CLOSED)
        assert (event.first, event.last, event.status, event.detail) == (1, 2, "skipped", "not needed")
        assert event.worker_id == "grace"
        before = events_of(store, _JOB)
        assert not store.close_task(_JOB.job_id, 1, 1, TaskStatus.FAILED, "again")
        assert events_of(store, _JOB) == before

    def test_a_stage_that_gives_up_tells_of_it_once(self, store: MovableStore) -> None:
        """The failure, the halt and the tasks that were skipped for it are told, and the halt not again."""
        start(store, _STRICT, 4, range_count=4)
        failing, running = claim_all(store, tasks_type(_STRICT), max_leases=2)
        complete_one(store, report(failing, BAD))
        kinds = kinds_of(store, _STRICT)[3:]
        assert kinds == [EventKind.TASKS_FAILED, EventKind.STAGE_HALTED, EventKind.TASKS_SKIPPED]
        skipped = only(store, _STRICT, EventKind.TASKS_SKIPPED)
        assert (skipped.first, skipped.last, skipped.tasks) == (2, 4, 2)
        complete_one(store, report(running, BAD))
        assert kinds_of(store, _STRICT).count(EventKind.STAGE_HALTED) == 1

    def test_the_siblings_of_a_failed_stage_are_told_as_halted(self, store: MovableStore) -> None:
        """A parallel group gives up together, and each of its stages says so."""
        job = new_job("group", stages=3)
        start(store, job, 1)
        siblings = [new_stage(number, group=(2, 3)) for number in (2, 3)]
        first = advance(store, run_all(store, job), *siblings).plan
        assert first is not None
        second = claim_plan(store, job)
        assert store.add_tasks(chunk(first, 1)) is PlanOutcome.RECORDED
        failing = claim_one(store, tasks_type(job))
        assert store.add_tasks(chunk(second, 2)) is PlanOutcome.RECORDED
        answer = complete_one(store, report(failing, BAD))
        assert answer.advance is not None
        advance(store, answer.advance, status=StageStatus.FAILED)
        told = [(event.kind, event.stage_number) for event in events_of(store, job)][-3:]
        assert told == [(EventKind.STAGE_CLOSED, 2), (EventKind.STAGE_HALTED, 3), (EventKind.TASKS_SKIPPED, 3)]


class JobHistoryConformance(StoreScenarios):
    """What the history tells of ends, pauses, planning and further runs."""

    def test_pauses_are_told_and_what_changes_nothing_is_not(self, store: MovableStore) -> None:
        """A pause and a resume are an event each; a change that the table forbids leaves none."""
        start(store, _JOB, 1)
        pause(store, _JOB)
        resume(store, _JOB)
        told = [(event.kind, event.status) for event in events_of(store, _JOB)][-2:]
        assert told == [(EventKind.JOB_PAUSED, "paused"), (EventKind.JOB_RESUMED, "processing")]
        finish(store, run_all(store, _JOB))
        before = events_of(store, _JOB)
        with pytest.raises(StageflowError):
            set_status(store, _JOB, JobStatus.PAUSED)
        assert events_of(store, _JOB) == before

    def test_a_cancelled_job_tells_what_was_closed_with_it(self, store: MovableStore) -> None:
        """Its waiting tasks, its open stage and its end; cancelling it again is no event, a late report's success neither."""
        start(store, _JOB, 4, range_count=4)
        running = claim_one(store, _TASKS)
        cancel(store, _JOB)
        events = events_of(store, _JOB)[3:]
        assert [(event.kind, event.status, event.tasks) for event in events] == [
            (EventKind.TASKS_CANCELLED, None, 3),
            (EventKind.STAGE_CLOSED, "cancelled", None),
            (EventKind.JOB_ENDED, "cancelled", None),
        ]
        complete_one(store, complete_ok(running))
        cancel(store, _JOB)
        assert len(events_of(store, _JOB)) == 3 + len(events)

    def test_a_failed_job_tells_its_error(self, store: MovableStore) -> None:
        """The end has the error; who holds a stale token ends nothing and tells nothing."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        assert fail_with(store, plan, "no such table")
        event = only(store, _JOB, EventKind.JOB_ENDED)
        assert (event.status, event.detail) == ("failed", "no such table")
        assert not fail_with(store, plan, "again")
        assert only(store, _JOB, EventKind.JOB_ENDED) == event

    def test_a_planning_that_is_tried_again_is_told(self, store: MovableStore) -> None:
        """The error of a failed planning, and the death of a planner, are in the history."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        given = RangeReturn(
            range_id=plan.range_id, token=plan.token, first=0, retry_delay_seconds=0.0, error_details="no route to host"
        )
        assert store.return_ranges([given]) == [True]
        claim_plan(store, _JOB, worker="grace")
        let_leases_expire(store)
        told = events_of(store, _JOB)[2:]
        assert [(event.kind, event.worker_id, event.attempt) for event in told] == [
            (EventKind.PLANNING_RETRIED, "ada", 1),
            (EventKind.PLANNING_RECOVERED, "grace", 2),
        ]
        assert told[0].detail == "no route to host"
        assert store.return_ranges([given]) == [False]
        assert len(events_of(store, _JOB)) == 4

    def test_an_advancing_that_is_left_is_told(self, store: MovableStore) -> None:
        """The death of who closes a stage is in the history too."""
        start(store, _JOB, 1)
        run_all(store, _JOB, worker="grace")
        let_leases_expire(store)
        assert only(store, _JOB, EventKind.ADVANCING_RECOVERED).worker_id == "grace"
        claim_advance(store, _JOB)

    def test_a_planner_of_an_ended_job_tells_nothing(self, store: MovableStore) -> None:
        """A chunk that comes too late is no planning."""
        create(store, _JOB)
        plan = claim_plan(store, _JOB)
        cancel(store, _JOB)
        before = events_of(store, _JOB)
        assert store.add_tasks(chunk(plan, 3)) is PlanOutcome.JOB_ENDED
        assert events_of(store, _JOB) == before

    def test_a_resubmission_goes_on_in_the_same_history(self, store: MovableStore) -> None:
        """The former run stays as it was told, and what follows is told of the next run."""
        start(store, _JOB, 2)
        cancel(store, _JOB)
        former = events_of(store, _JOB)
        resubmit(store, _JOB)
        plan = claim_plan(store, _JOB)
        store.add_tasks(chunk(plan, 1))
        finish(store, run_all(store, _JOB))
        events = events_of(store, _JOB)
        assert events[: len(former)] == former
        assert [(event.run, event.kind) for event in events[len(former) :]] == [
            (2, EventKind.JOB_RESUBMITTED),
            (2, EventKind.STAGE_OPENED),
            (2, EventKind.STAGE_PLANNED),
            (2, EventKind.STAGE_CLOSED),
            (2, EventKind.JOB_ENDED),
        ]
        with pytest.raises(StageflowError):
            resubmit(store, _JOB, former_run=2)
        assert events_of(store, _JOB) == events

    def test_a_repair_is_told_with_the_next_generation(self, store: MovableStore) -> None:
        """Which tasks run again, in which run and generation; stages that were taken over are not told again."""
        _complete_two(store, _TWO, 6)
        former = events_of(store, _TWO)
        repair(store, _TWO, 1, 4, stage=new_stage(2))
        (event,) = events_of(store, _TWO)[len(former) :]
        assert (event.kind, event.run, event.stage_number, event.generation) == (EventKind.STAGE_REPAIRED, 2, 2, 2)
        assert (event.first, event.last, event.tasks) == (1, 5, 2)
        finished = [complete_one(store, complete_ok(lease)) for lease in claim_all(store, tasks_type(_TWO))]
        advancing = finished[-1].advance
        assert advancing is not None
        finish(store, advancing)
        told = [(event.kind, event.run, event.generation) for event in events_of(store, _TWO)][-2:]
        assert told == [(EventKind.STAGE_CLOSED, 2, 2), (EventKind.JOB_ENDED, 2, None)]

    def test_what_is_claimed_of_an_ended_job_is_told_as_cancelled(self, store: MovableStore) -> None:
        """A lease that dies after the end closes its tasks, and the history says which."""
        start(store, _JOB, 2)
        claim_one(store, _TASKS, worker="grace")
        cancel(store, _JOB)
        let_leases_expire(store)
        assert ask(store, _TASKS).leases == []
        event = only(store, _JOB, EventKind.TASKS_CANCELLED)
        assert (event.first, event.last, event.tasks) == (0, 2, 2)
