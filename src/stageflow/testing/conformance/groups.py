"""Parallel groups: stages that run at the same time, each with its own barrier, and one that moves the job on."""

from typing import Final

import pytest

from stageflow.contracts.advancement import AdvanceOutcome, StageAdvancementResult
from stageflow.contracts.job import NewJob
from stageflow.contracts.lease import Lease, WorkKind
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
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
    claim_advance,
    claim_all,
    claim_one,
    complete_ok,
    complete_one,
    control_type,
    finish,
    new_job,
    new_stage,
    report,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import fail_with, get_job, get_stage, get_status, get_statuses, snapshot
from stageflow.testing.conformance.scenario import StoreScenarios

_FOUR: Final = new_job(stages=4)
_TASKS: Final = tasks_type(_FOUR)


def _first_stage_end(store: MovableStore, job: NewJob) -> Lease:
    start(store, job, 2)
    return run_all(store, job)


def _open_group(store: MovableStore, *, count: int = 2) -> tuple[Lease, Lease]:
    """Bring the job of four stages into its group of stages 2 and 3, both with all tasks leased; returns these leases."""
    answer = advance(store, _first_stage_end(store, _FOUR), new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)))
    assert answer.plan is not None
    store.add_tasks(chunk(answer.plan, count))
    sibling = claim_one(store, control_type(_FOUR))
    store.add_tasks(chunk(sibling, count))
    leases = sorted(claim_all(store, _TASKS), key=lambda lease: lease.stage_number)
    return leases[0], leases[1]


def _ended(store: MovableStore, lease: Lease) -> Lease:
    end = complete_one(store, complete_ok(lease)).advance
    assert end is not None
    return end


class GroupConformance(StoreScenarios):
    """Stages that run at the same time."""

    def test_the_stages_of_a_group_are_opened_together(self, store: MovableStore) -> None:
        """The caller plans the first, the others can be claimed, and the job stands at the group's first stage."""
        opened = [new_stage(number, group=(2, 4), task_type=f"type{number}") for number in (2, 3, 4)]
        answer = advance(store, _first_stage_end(store, _FOUR), *opened)
        assert (answer.outcome, answer.new_stage, answer.is_final_stage) == (AdvanceOutcome.ADVANCED, 2, True)
        assert answer.plan is not None
        assert answer.plan.stage_number == 2
        others = claim_all(store, control_type(_FOUR))
        assert [(lease.kind, lease.stage_number) for lease in others] == [(WorkKind.PLAN, 3), (WorkKind.PLAN, 4)]
        stages = store.list_stages(_FOUR.job_id, 1)[1:]
        assert [(stage.group_first, stage.group_last, stage.task_type) for stage in stages] == [
            (2, 4, "type2"),
            (2, 4, "type3"),
            (2, 4, "type4"),
        ]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_the_last_stage_of_a_group_moves_the_job_on(self, store: MovableStore, order: tuple[int, int]) -> None:
        """Each stage has its own barrier; the one that closes last goes on, whichever it is."""
        leases = _open_group(store)
        first, last = leases[order[0]], leases[order[1]]
        answer = advance(store, _ended(store, first), new_stage(4))
        assert (answer.outcome, answer.job_updated, answer.new_stage) == (AdvanceOutcome.SIBLINGS_OPEN, False, 2)
        assert answer.plan is None
        assert get_stage(store, _FOUR, first.stage_number).status is StageStatus.COMPLETED
        assert ask(store, control_type(_FOUR)).leases == []
        answer = advance(store, _ended(store, last), new_stage(4))
        assert (answer.outcome, answer.new_stage, answer.is_final_stage) == (AdvanceOutcome.ADVANCED, 4, True)
        assert sorted(get_job(store, _FOUR).stage_results) == ["1", "2", "3"]

    def test_two_stages_that_close_at_once_move_the_job_on_once(self, store: MovableStore) -> None:
        """Of two advancements of one group at the same moment exactly one is the last."""
        ends = [_ended(store, lease) for lease in _open_group(store)]

        def act(number: int) -> StageAdvancementResult:
            return advance(store, ends[number], new_stage(4), worker=f"worker {number}")

        outcomes = sorted(answer.outcome for answer in crowd(2, act))
        assert outcomes == [AdvanceOutcome.ADVANCED, AdvanceOutcome.SIBLINGS_OPEN]
        assert get_job(store, _FOUR).stage == 4

    def test_a_repeated_report_about_an_open_group_changes_nothing(self, store: MovableStore) -> None:
        """The result of a stage whose siblings still run is stored once."""
        first, _ = _open_group(store)
        end = _ended(store, first)
        assert advance(store, end, new_stage(4)).outcome is AdvanceOutcome.SIBLINGS_OPEN
        before = snapshot(store, _FOUR)
        assert advance(store, end, new_stage(4)).outcome is AdvanceOutcome.ALREADY_ADVANCED
        assert snapshot(store, _FOUR) == before

    def test_a_group_at_the_end_of_a_job_closes_it(self, store: MovableStore) -> None:
        """With nothing after the group, its last stage keeps the lease and ends the job."""
        job = new_job(stages=3)
        opened = [new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3))]
        plan = advance(store, _first_stage_end(store, job), *opened).plan
        assert plan is not None
        for lease in (plan, *claim_all(store, control_type(job))):
            store.add_tasks(chunk(lease, 0))
        first, last = claim_all(store, control_type(job))
        assert advance(store, first).outcome is AdvanceOutcome.SIBLINGS_OPEN
        assert advance(store, last).outcome is AdvanceOutcome.GROUP_CLOSED
        end = finish(store, last)
        assert (end.job_updated, end.final_stage, end.total_tasks) == (True, 3, 2)

    def test_a_failed_stage_halts_its_siblings(self, store: MovableStore) -> None:
        """What waits in the other stages of the group is skipped, what runs may end, and then the job is failed."""
        answer = advance(store, _first_stage_end(store, _FOUR), new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)))
        assert answer.plan is not None
        store.add_tasks(chunk(answer.plan, 2))
        failing = claim_one(store, _TASKS)
        store.add_tasks(chunk(claim_one(store, control_type(_FOUR)), 4, range_count=2))
        running = claim_one(store, _TASKS)
        end = complete_one(store, report(failing, BAD, BAD)).advance
        assert end is not None
        failed = advance(store, end, new_stage(4), status=StageStatus.FAILED)
        assert (failed.outcome, failed.new_stage) == (AdvanceOutcome.SIBLINGS_OPEN, 2)
        assert get_stage(store, _FOUR, 3).halted
        assert get_statuses(store, _FOUR, 3) == [TaskStatus.PROCESSING] * 2 + [TaskStatus.SKIPPED] * 2
        last = complete_one(store, complete_ok(running))
        assert (last.is_last_task_in_stage, last.advance is not None) == (True, True)
        assert last.advance is not None
        assert advance(store, last.advance, new_stage(4)).outcome is AdvanceOutcome.GROUP_FAILED
        assert get_job(store, _FOUR).stage == 2
        assert fail_with(store, last.advance, "stage 2 failed")
        assert get_status(store, _FOUR) is JobStatus.FAILED

    def test_a_failed_stage_may_empty_its_sibling(self, store: MovableStore) -> None:
        """A sibling of which nothing runs is emptied by the halt, and can be advanced at once."""
        answer = advance(store, _first_stage_end(store, _FOUR), new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)))
        assert answer.plan is not None
        store.add_tasks(chunk(answer.plan, 1))
        failing = claim_one(store, _TASKS)
        store.add_tasks(chunk(claim_one(store, control_type(_FOUR)), 4))
        end = complete_one(store, report(failing, BAD)).advance
        assert end is not None
        assert advance(store, end, new_stage(4), status=StageStatus.FAILED).outcome is AdvanceOutcome.SIBLINGS_OPEN
        assert get_statuses(store, _FOUR, 3) == [TaskStatus.SKIPPED] * 4
        lease = claim_advance(store, _FOUR)
        assert lease.stage_number == 3
        assert advance(store, lease, new_stage(4), status=StageStatus.SKIPPED).outcome is AdvanceOutcome.GROUP_FAILED

    def test_a_retry_in_a_sibling_that_was_halted_is_skipped_at_once(self, store: MovableStore) -> None:
        """What ran when the siblings were halted gets no other attempt; if it was the last, its stage can be advanced."""
        first, second = _open_group(store, count=1)
        failed = complete_one(store, report(first, BAD)).advance
        assert failed is not None
        assert advance(store, failed, new_stage(4), status=StageStatus.FAILED).outcome is AdvanceOutcome.SIBLINGS_OPEN
        last = complete_one(store, report(second, Again()))
        assert (last.stage_halted, last.remaining_tasks, last.is_last_task_in_stage) == (True, 0, True)
        assert get_statuses(store, _FOUR, 3) == [TaskStatus.SKIPPED]

    def test_a_failure_beside_a_sibling_that_is_done_advances_it_once(self, store: MovableStore) -> None:
        """Who is at the sibling's advancement stays the only one."""
        first, second = _open_group(store)
        done = _ended(store, first)
        failed = complete_one(store, report(second, BAD, BAD)).advance
        assert failed is not None
        assert advance(store, failed, new_stage(4), status=StageStatus.FAILED).outcome is AdvanceOutcome.SIBLINGS_OPEN
        assert ask(store, control_type(_FOUR)).leases == []
        assert advance(store, done, new_stage(4)).outcome is AdvanceOutcome.GROUP_FAILED

    def test_a_sibling_that_was_halted_before_its_planning_is_still_planned(self, store: MovableStore) -> None:
        """A halt closes tasks and no control work: the stage is planned to its end, and only then advanced."""
        answer = advance(store, _first_stage_end(store, _FOUR), new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)))
        assert answer.plan is not None
        store.add_tasks(chunk(answer.plan, 1))
        failed = complete_one(store, report(claim_one(store, _TASKS), BAD)).advance
        assert failed is not None
        assert advance(store, failed, new_stage(4), status=StageStatus.FAILED).outcome is AdvanceOutcome.SIBLINGS_OPEN
        plan = claim_one(store, control_type(_FOUR))
        assert (plan.kind, plan.stage_number) == (WorkKind.PLAN, 3)
        assert ask(store, control_type(_FOUR)).leases == []
        store.add_tasks(chunk(plan, 0))
        assert claim_advance(store, _FOUR).stage_number == 3

    def test_the_stage_that_closes_last_may_be_the_failed_one(self, store: MovableStore) -> None:
        """A group fails whichever of its stages failed, in whatever order they close."""
        first, last = _open_group(store)
        assert advance(store, _ended(store, first), new_stage(4)).outcome is AdvanceOutcome.SIBLINGS_OPEN
        answer = advance(store, _ended(store, last), new_stage(4), status=StageStatus.FAILED)
        assert answer.outcome is AdvanceOutcome.GROUP_FAILED
        assert answer.plan is None

    def test_the_stages_of_a_group_do_not_share_their_results(self, store: MovableStore) -> None:
        """Results, counters and barriers of parallel stages are each stage's own."""
        first, second = _open_group(store)
        complete_one(store, report(first, OK, BAD))
        assert get_statuses(store, _FOUR, 2) == [OK, BAD]
        assert get_statuses(store, _FOUR, 3) == [TaskStatus.PROCESSING] * 2
        assert get_stage(store, _FOUR, 3).remaining == 2
        assert complete_one(store, complete_ok(second)).is_last_task_in_stage

    def test_a_cancelled_group_is_closed_whole(self, store: MovableStore) -> None:
        """Cancelling a job closes the waiting work of all the stages that run at the time."""
        first, second = _open_group(store)
        cancel(store, _FOUR)
        complete_one(store, complete_ok(first))
        complete_one(store, complete_ok(second))
        assert [get_stage(store, _FOUR, number).status for number in (2, 3)] == [StageStatus.CANCELLED] * 2
        assert ask(store, *all_types(_FOUR)).leases == []
