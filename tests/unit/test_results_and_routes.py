"""Lazily read results, and where a closed stage leads."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stageflow import (
    Contract,
    OrchestrationAction,
    OrchestrationDataContract,
    OrchestrationError,
    StageDefinition,
    StageResultContract,
    StageResults,
    StageResultsInvalidError,
    StageStatus,
    TaskFailedError,
    TaskStatus,
    WorkflowDefinition,
)
from stageflow.contracts.results import FIRST_PAGE_SIZE, PAGE_SIZE, ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.engine.route import EndJob, OpenStages, choose_route, why_failed

NOW = datetime(2026, 5, 17, tzinfo=UTC)


class Number(Contract):
    """A task result."""

    value: int


def rows(*results: str | None) -> list[ResultRow]:
    """Return stored rows; ``None`` is a failed task."""
    return [
        ResultRow(
            task_index=index,
            attempt=1,
            status=TaskStatus.FAILED if text is None else TaskStatus.COMPLETED,
            result=text,
            error_details="it broke" if text is None else None,
        )
        for index, text in enumerate(results)
    ]


def results(
    stored: list[ResultRow], model: type[Contract] | None = Number, *, task_count: int | None = None
) -> StageResults[Any]:
    """Return results over rows in memory."""

    def load(first: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001  the shape of a page loader
        wanted = [row for row in stored if row.task_index >= first]
        return [row for row in wanted if not failed_only or row.status is TaskStatus.FAILED][:limit]

    good = sum(row.status is TaskStatus.COMPLETED for row in stored)
    count = len(stored) if task_count is None else task_count
    return StageResults(stage_number=1, model=model, task_count=count, successful_tasks=good, load=load)


class TestStageResults:
    """A sequence that pages."""

    def test_completed_results_come_in_index_order(self) -> None:
        """Across pages, failed ones left out, each under its own index."""
        for width in (5, FIRST_PAGE_SIZE, FIRST_PAGE_SIZE + 1, 3 * FIRST_PAGE_SIZE, 4 * PAGE_SIZE + 3):
            texts = [None if index % 4 == 1 else f'{{"value":{index}}}' for index in range(width)]
            good = [index for index in range(width) if index % 4 != 1]
            read = results(rows(*texts))
            assert len(read) == len(good)
            assert [number.value for number in read] == good
            assert [index for index, _ in read.items()] == good
            assert [row.task_index for row in read.failures()] == list(range(1, width, 4))
            assert (read[0], read[2]) == (Number(value=0), Number(value=2))

    def test_a_result_that_is_not_there_says_why(self) -> None:
        """A failed task, an index beyond the stage, and a row that is missing are three different errors."""
        read = results(rows('{"value":1}', None), task_count=3)
        with pytest.raises(TaskFailedError, match="it broke"):
            read[1]
        with pytest.raises(IndexError, match="0 to 2"):
            read[3]
        with pytest.raises(StageResultsInvalidError, match="no stored result"):
            read[2]

    def test_a_malformed_result_names_the_field(self) -> None:
        """What no longer validates is loud."""
        with pytest.raises(StageResultsInvalidError, match="task 0 of stage 1 is no Number: value"):
            list(results(rows('{"value":"1"}')))

    def test_a_stage_without_a_result_model_gives_none(self) -> None:
        """One None for each completed task."""
        assert list(results(rows("null", None), None)) == [None]


def workflow(*after: tuple[int, ...], may_skip: bool = False) -> WorkflowDefinition:
    """Return a workflow whose stages follow those named."""
    stages = tuple(
        StageDefinition(number=number, name="s", task_type="t", after=names, may_skip=may_skip and number > 1)
        for number, names in enumerate(after, start=1)
    )
    return WorkflowDefinition(job_type="w", stages=stages, parameters_model="m:P")


def stage(number: int, *, group: tuple[int, int] | None = None) -> StageRecord:
    """Return a finished stage of one completed task."""
    first, last = group or (number, number)
    return StageRecord(
        stage_id=number,
        job_id="0" * 64,
        run=1,
        stage_number=number,
        generation=1,
        name="s",
        task_type="t",
        status=StageStatus.PROCESSING,
        task_count=0,
        remaining=0,
        successful_tasks=0,
        failed_tasks=0,
        skipped_tasks=0,
        cancelled_tasks=0,
        halted=False,
        plan_digest="",
        group_first=first,
        group_last=last,
        stored_result=None,
        created_at=NOW,
        updated_at=NOW,
    )


def closed(number: int, orchestration: OrchestrationDataContract | None = None) -> StageResultContract:
    """Return the result of an empty stage."""
    return StageResultContract.from_task_results(number, [], orchestration=orchestration, completed_at=NOW)


def decide(action: OrchestrationAction, **fields: Any) -> OrchestrationDataContract:
    """Return an orchestration."""
    return OrchestrationDataContract(action=action, **fields)


class TestRoute:
    """Where a job goes."""

    def test_without_orchestration_the_next_stage_follows_and_the_last_ends_the_job(self) -> None:
        """One after the other."""
        two = workflow((), (1,))
        following = choose_route(two, stage(1), closed(1))
        assert isinstance(following, OpenStages)
        assert [each.stage_number for each in following.stages] == [2]
        assert choose_route(two, stage(2), closed(2)) == EndJob(fails=False)

    def test_skipping_opens_the_stage_after_or_ends_the_job(self) -> None:
        """The skipped stage is recorded."""
        three = workflow((), (1,), (2,), may_skip=True)
        route = choose_route(three, stage(1), closed(1, decide(OrchestrationAction.SKIP_STAGE)))
        assert isinstance(route, OpenStages)
        assert [(each.stage_number, each.skipped) for each in route.stages] == [(2, True), (3, False)]
        two = choose_route(workflow((), (1,)), stage(1), closed(1, decide(OrchestrationAction.SKIP_STAGE)))
        assert isinstance(two, EndJob)
        assert [each.stage_number for each in two.skipped] == [2]

    def test_a_verdict_of_failed_ends_the_job(self) -> None:
        """With the counts as the reason."""
        result = closed(1).model_copy(update={"status": StageStatus.FAILED})
        route = choose_route(workflow((), (1,)), stage(1), result)
        assert isinstance(route, EndJob)
        assert "should_advance_stage answered False" in route.reason

    @pytest.mark.parametrize(
        ("definition", "record", "orchestration", "said"),
        [
            (workflow((), (1,), (2,)), stage(1), decide(OrchestrationAction.SKIP_STAGE), "may_skip=True"),
            (workflow((), (1,)), stage(2), decide(OrchestrationAction.SKIP_STAGE), "is the last one"),
            (workflow((), (1,)), stage(2), decide(OrchestrationAction.CREATE_TASKS), "is the last one"),
            (workflow((), (1,), (1,)), stage(1), decide(OrchestrationAction.PARALLEL_STAGES, stages=[3]), "must be 2..m"),
            (workflow((), (1,), (1,)), stage(1), decide(OrchestrationAction.PARALLEL_STAGES, stages=[2, 3, 4]), "must be 2..m"),
            (
                workflow((), (1,), (2,)),
                stage(1),
                decide(OrchestrationAction.PARALLEL_STAGES, stages=[2, 3]),
                "cannot run beside",
            ),
            (
                workflow((), (1,), (1,), (3,)),
                stage(2, group=(2, 3)),
                decide(OrchestrationAction.COMPLETE_JOB, reason="enough"),
                "only FAIL_JOB",
            ),
        ],
    )
    def test_orchestration_that_does_not_fit_is_refused(
        self, definition: WorkflowDefinition, record: StageRecord, orchestration: OrchestrationDataContract, said: str
    ) -> None:
        """Before anything is stored, with what to correct."""
        with pytest.raises(OrchestrationError, match=said):
            choose_route(definition, record, closed(record.stage_number, orchestration))

    def test_a_skip_at_the_end_completes_the_job_and_one_that_is_needed_names_the_stages(self) -> None:
        """The skipped stage may be the last; who needs its results is told apart from who may do without."""
        skip = decide(OrchestrationAction.SKIP_STAGE)
        two = workflow((), (1,))
        assert choose_route(two, stage(1), closed(1, skip)) == EndJob(fails=False, skipped=[two.new_stage(2, skipped=True)])
        with pytest.raises(OrchestrationError) as caught:
            choose_route(workflow((), (1,), (2,), (3,)), stage(1), closed(1, skip))
        assert str(caught.value) == (
            "stage 1 skips stage 2, whose results the planner of stage 3 needs; declare may_skip=True there and take "
            "StageResults[...] | None"
        )
        beside = choose_route(workflow((), (1,), (1,)), stage(1), closed(1, skip))
        assert isinstance(beside, OpenStages)
        assert [(each.stage_number, each.skipped) for each in beside.stages] == [(2, True), (3, False)]

    def test_a_job_that_is_complete_early_skips_all_that_follows(self) -> None:
        """Each stage to the last is recorded as skipped."""
        four = workflow((), (1,), (2,), (3,))
        orchestration = decide(OrchestrationAction.COMPLETE_JOB, reason="enough")
        expected = EndJob(fails=False, skipped=[four.new_stage(number, skipped=True) for number in (2, 3, 4)])
        assert choose_route(four, stage(1), closed(1, orchestration)) == expected
        assert choose_route(four, stage(4), closed(4, orchestration)) == EndJob(fails=False)

    def test_a_group_is_opened_as_one_and_left_as_one(self) -> None:
        """Each of its stages knows the first and the last, and the stage after the last follows."""
        five = workflow((), (1,), (1,), (1,), (2, 3))
        orchestration = decide(OrchestrationAction.PARALLEL_STAGES, stages=[2, 3, 4])
        route = choose_route(five, stage(1), closed(1, orchestration))
        assert route == OpenStages([five.new_stage(number, group=(2, 4)) for number in (2, 3, 4)])
        assert choose_route(five, stage(2, group=(2, 4)), closed(2)) == OpenStages([five.new_stage(5)])
        last = workflow((), (1,), (1,), (1,))
        assert isinstance(choose_route(last, stage(1), closed(1, orchestration)), OpenStages)
        assert choose_route(last, stage(3, group=(2, 4)), closed(3)) == EndJob(fails=False)

    @pytest.mark.parametrize(
        ("definition", "record", "orchestration", "said"),
        [
            (
                workflow((), (1,)),
                stage(2),
                decide(OrchestrationAction.CREATE_TASKS),
                "stage 2 is the last one, CREATE_TASKS has nothing to act on; return COMPLETE_JOB, FAIL_JOB or None",
            ),
            (
                workflow((), (1,), (1,)),
                stage(1),
                decide(OrchestrationAction.PARALLEL_STAGES, stages=[2, 3, 4]),
                "parallel stages after stage 1 must be 2..m with m <= 3, got 2..4; correct the orchestration",
            ),
            (
                workflow((), (1,), (2,)),
                stage(1),
                decide(OrchestrationAction.PARALLEL_STAGES, stages=[2, 3]),
                "stage 3 takes the results of [2] and cannot run beside it; correct `after` or the group",
            ),
            (
                workflow((), (1,), (1,), (3,)),
                stage(2, group=(2, 3)),
                decide(OrchestrationAction.COMPLETE_JOB, reason="enough"),
                "stage 2 runs in a parallel group, where only FAIL_JOB is allowed, not COMPLETE_JOB; decide after the group",
            ),
        ],
    )
    def test_a_refusal_names_the_stages(
        self, definition: WorkflowDefinition, record: StageRecord, orchestration: OrchestrationDataContract, said: str
    ) -> None:
        """What was decided, where, and what is possible in its place."""
        with pytest.raises(OrchestrationError) as caught:
            choose_route(definition, record, closed(record.stage_number, orchestration))
        assert str(caught.value) == said

    def test_a_job_says_why_its_stage_failed(self) -> None:
        """Its own decision before all, then the counts, with the first failure where it is known."""
        one = workflow((), (1,))
        ended = closed(1, decide(OrchestrationAction.FAIL_JOB, reason="no disk"))
        assert choose_route(one, stage(1), ended) == EndJob(fails=True, reason="stage 1 ended the job: no disk")
        first = ResultRow(task_index=7, attempt=1, status=TaskStatus.FAILED, result=None, error_details="it broke")
        three = workflow((), (1,), (2,))
        planned = closed(1, decide(OrchestrationAction.CREATE_TASKS, items=[{}]))
        assert choose_route(three, stage(1), planned) == OpenStages([three.new_stage(2)])
        empty = closed(1).model_copy(update={"status": StageStatus.FAILED})
        counts = "0 of 0 tasks failed, 0 were skipped, 0 completed"
        assert why_failed(empty, None) == f"stage 1 failed: should_advance_stage answered False ({counts})"
        assert why_failed(empty, first) == f"stage 1 failed: {counts}; first failure, task 7: it broke"
        assert choose_route(one, stage(1), empty, first) == EndJob(fails=True, reason=why_failed(empty, first))
