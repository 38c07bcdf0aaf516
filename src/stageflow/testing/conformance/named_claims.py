"""Named claims: a message leads to the work that it names, or to an honest answer."""

from typing import Final

from stageflow.contracts.lease import (
    ClaimOutcome,
    CompletionOutcome,
    HeldLease,
    Lease,
    Recovery,
    WorkKind,
)
from stageflow.contracts.outbox import Announcement
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.testing.conformance.builders import (
    Again,
    MovableStore,
    advance,
    ask,
    cancel,
    chunk,
    claim_all,
    claim_one,
    complete_ok,
    complete_one,
    control_type,
    create,
    finish,
    let_leases_expire,
    name_claim,
    new_job,
    new_stage,
    pause,
    recover,
    report,
    resume,
    run_all,
    set_status,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_stage, get_statuses
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _held(lease: Lease, current_index: int | None = None) -> HeldLease:
    index = lease.first if current_index is None else current_index
    return HeldLease(range_id=lease.range_id, token=lease.token, current_index=index)


def _unannounced(store: MovableStore) -> list[Announcement]:
    return store.list_unannounced(older_than_seconds=None, limit=100)


class NamedClaimConformance(StoreScenarios):
    """Claiming what a message names."""

    def test_a_message_claims_its_planning(self, store: MovableStore) -> None:
        """A job message leads to the control work of its stage."""
        create(store, _JOB, new_job("other"))
        answer = store.claim_named(name_claim(_JOB, WorkKind.PLAN, WorkKind.ADVANCE))
        assert answer.outcome is ClaimOutcome.WORK
        assert [(lease.kind, lease.job_id) for lease in answer.leases] == [(WorkKind.PLAN, _JOB.job_id)]
        assert store.add_tasks(chunk(answer.leases[0], 1)) is PlanOutcome.RECORDED

    def test_a_message_claims_what_it_names_and_no_more(self, store: MovableStore) -> None:
        """The rest of a range stays ready, on both sides, and is announced again."""
        start(store, _JOB, 10)
        store.mark_announced([item.range_id for item in store.list_unannounced(older_than_seconds=None, limit=10)])
        answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=3, last=6))
        (lease,) = answer.leases
        assert (lease.first, lease.last, len(lease.tasks)) == (3, 6, 3)
        spans = [item.message.model_dump(include={"first", "last"}) for item in _unannounced(store)]
        assert sorted(span["first"] for span in spans) == [0, 6]
        assert sorted(span["last"] for span in spans) == [3, 10]
        assert complete_one(store, complete_ok(lease)).outcome is CompletionOutcome.RECORDED
        assert sorted((lease.first, lease.last) for lease in claim_all(store, _TASKS)) == [(0, 3), (6, 10)]

    def test_a_named_claim_keeps_to_its_limit(self, store: MovableStore) -> None:
        """A host that runs few tasks at a time gets few, from the lowest index on."""
        start(store, _JOB, 10)
        (lease,) = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=2, last=9, max_tasks=3)).leases
        assert (lease.first, lease.last) == (2, 5)

    def test_a_named_claim_never_reaches_into_its_neighbours(self, store: MovableStore) -> None:
        """Where all that a message names is leased, the ready work right after it is not taken in its place."""
        start(store, _JOB, 4, range_count=2)
        named = name_claim(_JOB, WorkKind.TASK, first=0, last=2)
        assert store.claim_named(named).outcome is ClaimOutcome.WORK
        assert store.claim_named(named).outcome is ClaimOutcome.LEASED
        assert get_statuses(store, _JOB) == [TaskStatus.PROCESSING] * 2 + [TaskStatus.QUEUED] * 2

    def test_a_message_may_name_the_end_of_a_range(self, store: MovableStore) -> None:
        """What is before it stays ready, and ends where the lease begins."""
        start(store, _JOB, 10)
        (lease,) = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=6, last=10)).leases
        assert (lease.first, lease.last) == (6, 10)
        assert [(rest.first, rest.last) for rest in claim_all(store, _TASKS)] == [(0, 6)]

    def test_a_suspect_range_is_leased_singly_by_name(self, store: MovableStore) -> None:
        """Whichever task its worker died on dies alone the next time."""
        start(store, _JOB, 3)
        claim_one(store, _TASKS)
        let_leases_expire(store)
        (lease,) = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=3)).leases
        assert (lease.first, lease.last) == (0, 1)

    def test_a_message_about_leased_work_is_told_so(self, store: MovableStore) -> None:
        """A doubled message finds the work in other hands."""
        start(store, _JOB, 4)
        claim_one(store, _TASKS)
        answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=4))
        assert (answer.outcome, answer.leases) == (ClaimOutcome.LEASED, [])

    def test_a_message_about_paused_work_is_held(self, store: MovableStore) -> None:
        """Messages of a paused job are taken off the queue; the resumption announces their work again."""
        start(store, _JOB, 2)
        pause(store, _JOB)
        for _ in range(2):
            answer = store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2))
            assert (answer.outcome, answer.leases) == (ClaimOutcome.HELD, [])
        resume(store, _JOB)
        assert len(_unannounced(store)) == 1
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2)).outcome is ClaimOutcome.WORK

    def test_a_message_about_work_that_is_due_later_is_held(self, store: MovableStore) -> None:
        """A retry keeps its time, whatever a late message says."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), Again(50.0)))
        named = name_claim(_JOB, WorkKind.TASK, first=0, last=1)
        assert store.claim_named(named).outcome is ClaimOutcome.HELD
        store.move_clock(51)
        recover(store)
        (lease,) = store.claim_named(named).leases
        assert lease.attempt == 2

    def test_a_message_about_what_is_done_is_told_so(self, store: MovableStore) -> None:
        """A late message about work that has ended is acknowledged and does nothing."""
        start(store, _JOB, 2)
        lease = run_all(store, _JOB)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2)).outcome is ClaimOutcome.DONE
        assert finish(store, lease).job_updated
        for kind in WorkKind:
            assert store.claim_named(name_claim(_JOB, kind, last=2)).outcome is ClaimOutcome.DONE

    def test_a_message_about_what_never_was_is_done(self, store: MovableStore) -> None:
        """Unknown jobs, stages, runs and generations have nothing left to do."""
        start(store, _JOB, 2)
        strangers = [
            name_claim(new_job("nobody"), WorkKind.TASK),
            name_claim(_JOB, WorkKind.TASK, stage_number=2),
            name_claim(_JOB, WorkKind.TASK, run=2),
            name_claim(_JOB, WorkKind.TASK, generation=2),
            name_claim(_JOB, WorkKind.TASK, first=2, last=9),
        ]
        assert [store.claim_named(claim).outcome for claim in strangers] == [ClaimOutcome.DONE] * len(strangers)
        assert get_statuses(store, _JOB) == [TaskStatus.QUEUED] * 2

    def test_control_work_is_named_by_its_run(self, store: MovableStore) -> None:
        """Its messages name no generation, so none is asked for."""
        create(store, _JOB)
        assert store.claim_named(name_claim(_JOB, WorkKind.PLAN, run=2, generation=2)).outcome is ClaimOutcome.DONE
        assert store.claim_named(name_claim(_JOB, WorkKind.PLAN, generation=2)).outcome is ClaimOutcome.WORK

    def test_a_message_of_an_ended_job_is_done(self, store: MovableStore) -> None:
        """Nothing of a cancelled job is claimed by name."""
        start(store, _JOB, 2)
        cancel(store, _JOB)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK, first=0, last=2)).outcome is ClaimOutcome.DONE

    def test_a_named_claim_starts_the_job(self, store: MovableStore) -> None:
        """A host that works by messages alone moves a job as a worker does."""
        create(store, _JOB)
        (plan,) = store.claim_named(name_claim(_JOB, WorkKind.PLAN)).leases
        store.add_tasks(chunk(plan, 1))
        (lease,) = store.claim_named(name_claim(_JOB, WorkKind.TASK)).leases
        answer = complete_one(store, complete_ok(lease), worker="host")
        assert answer.advance is not None
        assert finish(store, answer.advance).job_updated
        assert recover(store) == Recovery()
        assert ask(store, control_type(_JOB), _TASKS).outcome is ClaimOutcome.EMPTY
        assert get_stage(store, _JOB).remaining == 0

    def test_a_named_claim_of_tasks_starts_a_job_that_was_queued_again(self, store: MovableStore) -> None:
        """Whatever its first lease is of, the job runs."""
        start(store, _JOB, 1)
        pause(store, _JOB)
        set_status(store, _JOB, JobStatus.QUEUED)
        assert store.claim_named(name_claim(_JOB, WorkKind.TASK)).outcome is ClaimOutcome.WORK
        assert store.get_jobs([_JOB.job_id])[0].status is JobStatus.PROCESSING

    def test_a_named_claim_of_planning_shows_in_its_stage(self, store: MovableStore) -> None:
        """A stage beside another is in planning once its own work is leased, long after the job began."""
        job = new_job(stages=3)
        start(store, job, 1)
        advance(store, run_all(store, job), *(new_stage(number, group=(2, 3)) for number in (2, 3)))
        assert store.claim_named(name_claim(job, WorkKind.PLAN, stage_number=3)).outcome is ClaimOutcome.WORK
        assert get_stage(store, job, 3).status is StageStatus.PLANNING
