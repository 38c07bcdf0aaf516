"""Results and tasks: read in index order, page by page, whether they ran or were closed unrun."""

from typing import Final

import pytest

from stageflow.contracts.ids import make_task_id
from stageflow.contracts.lease import WorkKind
from stageflow.contracts.results import ResultRow
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import StageStatus, TaskStatus
from stageflow.errors import StageResultsInvalidError
from stageflow.testing.conformance.builders import (
    BAD,
    NOON,
    OK,
    Again,
    MovableStore,
    advance,
    cancel,
    chunk,
    claim_all,
    claim_one,
    claim_plan,
    complete,
    complete_one,
    control_type,
    create,
    finish,
    give_back,
    new_job,
    new_stage,
    report,
    run_all,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_job, get_shallow_job, get_stage, get_tasks
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)


def _closed_in_the_middle(store: MovableStore) -> StageRecord:
    """Make a cancelled stage of ten tasks: 0-2 ran (1 failed), 3-6 were cancelled unrun, 7-9 ran."""
    start(store, _JOB, 10)
    head = claim_one(store, _TASKS, max_tasks=3)
    middle = claim_one(store, _TASKS, max_tasks=4)
    tail = claim_one(store, _TASKS)
    complete_one(store, report(head, OK, BAD, OK))
    complete_one(store, report(middle, *[Again()] * 4))
    cancel(store, _JOB)
    complete_one(store, report(tail, OK, OK, OK))
    return get_stage(store, _JOB)


class ResultConformance(StoreScenarios):
    """Reading what became of tasks."""

    def test_a_result_reads_back_as_its_contract(self, store: MovableStore) -> None:
        """Everything that a worker reported about a task is in its result."""
        start(store, _JOB, 2)
        complete_one(store, report(claim_one(store, _TASKS), OK, BAD))
        good, bad = store.list_task_results(get_stage(store, _JOB).stage_id, first_index=0, limit=10)
        assert (good.task_id, good.job_id) == (make_task_id(_JOB.job_id, 1, 0), _JOB.job_id)
        assert (good.stage_number, good.task_index, good.attempt, good.task_type) == (1, 0, 1, "work")
        assert (good.status, good.result_data, good.error_details) == (OK, {"of": 0}, None)
        assert (good.execution_time_seconds, good.completed_at) == (0.25, NOON)
        assert (bad.status, bad.result_data, bad.error_details) == (BAD, None, "task 1 is failed")

    def test_tasks_show_where_they_stand(self, store: MovableStore) -> None:
        """A task's status is that of its result, else of the range that holds it."""
        start(store, _JOB, 8)
        lease = claim_one(store, _TASKS, max_tasks=6)
        complete_one(store, report(lease, OK, BAD, TaskStatus.SKIPPED, Again(60.0, "later")))
        tasks = get_tasks(store, _JOB)
        assert [task.status for task in tasks] == [
            OK,
            BAD,
            TaskStatus.SKIPPED,
            TaskStatus.QUEUED,
            TaskStatus.PROCESSING,
            TaskStatus.PROCESSING,
            TaskStatus.QUEUED,
            TaskStatus.QUEUED,
        ]
        assert [task.attempt for task in tasks] == [1, 1, 1, 2, 1, 1, 1, 1]
        assert [task.error_details for task in tasks[1:5]] == ["task 1 is failed", "task 2 is skipped", "later", None]

    def test_running_tasks_are_counted_stage_by_stage(self, store: MovableStore) -> None:
        """What is leased runs; what waits, was given back, ended or is of another stage does not, nor does a planner."""
        other = new_job("other")
        start(store, other, 4, range_count=2)
        claim_one(store, _TASKS)
        start(store, _JOB, 10, range_count=2)
        create(store, new_job("planned"))
        claim_plan(store, new_job("planned"))
        stages = [get_stage(store, job).stage_id for job in (_JOB, new_job("planned"), other)]
        assert store.count_running_tasks(stages) == [0, 0, 2]
        mine = [lease for lease in claim_all(store, _TASKS) if lease.job_id == _JOB.job_id]
        assert store.count_running_tasks([*stages, 987_654]) == [10, 0, 4, 0]
        complete_one(store, report(mine[0], OK, Again(60.0), BAD))
        store.return_ranges([give_back(mine[1], mine[1].first + 1)])
        assert store.count_running_tasks(stages) == [3, 0, 4]
        assert [task.status for task in get_tasks(store, _JOB)].count(TaskStatus.PROCESSING) == 3
        assert store.count_running_tasks([]) == []

    def test_a_task_reads_back_with_every_field(self, store: MovableStore) -> None:
        """A task carries its identity, its parameters, its result and its times."""
        start(store, _JOB, 2)
        complete_one(store, report(claim_one(store, _TASKS, max_tasks=1), OK))
        ended, waiting = get_tasks(store, _JOB)
        assert (ended.task_id, ended.parent_job_id) == (make_task_id(_JOB.job_id, 1, 0), _JOB.job_id)
        assert (ended.job_type, ended.task_type, ended.stage, ended.task_index) == ("demo", "work", 1, 0)
        assert (ended.parameters, ended.result_data, ended.key) == ({"index": 0}, {"of": 0}, None)
        assert (ended.updated_at, ended.created_at) == (NOON, get_stage(store, _JOB).created_at)
        assert (waiting.parameters, waiting.result_data, waiting.heartbeat) == ({"index": 1}, None, None)

    def test_closed_tasks_are_results_that_say_why(self, store: MovableStore) -> None:
        """A task that was skipped or cancelled unrun is in its place among the results, with the reason."""
        stage = _closed_in_the_middle(store)
        rows = store.list_result_rows(stage.stage_id, first_index=0, limit=100, failed_only=False)
        assert [(row.task_index, row.status) for row in rows] == [
            (0, OK),
            (1, BAD),
            (2, OK),
            *[(index, TaskStatus.CANCELLED) for index in (3, 4, 5, 6)],
            *[(index, OK) for index in (7, 8, 9)],
        ]
        assert [(row.result, row.attempt) for row in rows[3:7]] == [(None, 2)] * 4
        assert all(row.error_details is not None and row.error_details.startswith("cancelled") for row in rows[3:7])
        results = store.list_task_results(stage.stage_id, first_index=0, limit=100)
        assert [(result.task_index, result.status) for result in results] == [(row.task_index, row.status) for row in rows]
        assert results[3].completed_at <= store.now()
        assert [task.status for task in get_tasks(store, _JOB)] == [row.status for row in rows]

    def test_skipped_tasks_say_that_the_stage_was_halted(self, store: MovableStore) -> None:
        """The reason of a skip is the halt."""
        start(store, new_job(first_stage=new_stage(1, fail_fast=True)), 3, range_count=3)
        complete_one(store, report(claim_one(store, _TASKS), BAD))
        rows = store.list_result_rows(get_stage(store, _JOB).stage_id, first_index=1, limit=5, failed_only=False)
        assert [(row.status, row.result) for row in rows] == [(TaskStatus.SKIPPED, None)] * 2
        assert all(row.error_details is not None and row.error_details.startswith("skipped") for row in rows)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    def test_pages_of_results_fit_together(self, store: MovableStore, limit: int) -> None:
        """Pages of any size give each result once, in order, across closed ranges."""
        stage = _closed_in_the_middle(store)
        whole = store.list_result_rows(stage.stage_id, first_index=0, limit=100, failed_only=False)
        paged: list[ResultRow] = []
        while page := store.list_result_rows(
            stage.stage_id,
            first_index=paged[-1].task_index + 1 if paged else 0,
            limit=limit,
            failed_only=False,
        ):
            assert len(page) <= limit
            paged += page
        assert paged == whole
        results = store.list_task_results(stage.stage_id, first_index=4, limit=limit)
        assert [result.task_index for result in results] == list(range(4, 10))[:limit]
        tasks = store.list_tasks(_JOB.job_id, 1, 1, first_index=4, limit=limit)
        assert [task.task_index for task in tasks] == list(range(4, 10))[:limit]

    def test_failures_are_found_among_many(self, store: MovableStore) -> None:
        """Failed tasks are listed alone, in index order, page by page."""
        start(store, _JOB, 30)
        outcomes = [BAD if index % 7 == 3 else OK for index in range(30)]
        complete_one(store, report(claim_one(store, _TASKS), *outcomes))
        stage_id = get_stage(store, _JOB).stage_id
        rows = store.list_result_rows(stage_id, first_index=4, limit=2, failed_only=True)
        assert [(row.task_index, row.status) for row in rows] == [(10, BAD), (17, BAD)]
        failed = store.list_failed_tasks(_JOB.job_id, 1, 1, first_index=0, limit=3)
        assert [(task.task_index, task.error_details) for task in failed] == [
            (3, "task 3 is failed"),
            (10, "task 10 is failed"),
            (17, "task 17 is failed"),
        ]
        assert [task.task_index for task in store.list_failed_tasks(_JOB.job_id, 1, 1, first_index=18, limit=9)] == [24]

    def test_skipped_and_cancelled_tasks_are_no_failures(self, store: MovableStore) -> None:
        """What never ran did not fail."""
        stage = _closed_in_the_middle(store)
        rows = store.list_result_rows(stage.stage_id, first_index=0, limit=100, failed_only=True)
        assert [row.task_index for row in rows] == [1]

    def test_results_that_are_not_there_are_not_made_up(self, store: MovableStore) -> None:
        """Open tasks have no result; unknown stages, runs and jobs have neither tasks nor results."""
        start(store, _JOB, 3)
        stage_id = get_stage(store, _JOB).stage_id
        assert store.list_result_rows(stage_id, first_index=0, limit=9, failed_only=False) == []
        assert store.list_task_results(987_654, first_index=0, limit=9) == []
        assert store.list_tasks(_JOB.job_id, 2, 1, first_index=0, limit=9) == []
        assert store.list_tasks(_JOB.job_id, 1, 2, first_index=0, limit=9) == []
        assert store.list_stages(new_job("nobody").job_id, 1) == []


class StageResultConformance(StoreScenarios):
    """Stage results as part of their job.

    A subclass says how a stored stage result is overwritten with other text, past the port.
    """

    def corrupt_stage_result(self, store: MovableStore, job_id: str, stage_number: int, text: str) -> None:
        """Overwrite the stored result of a stage of the job's first run."""
        msg = f"{type(self).__name__} needs corrupt_stage_result; write {text!r} to the stage's row in {store.url}"
        raise NotImplementedError(msg, job_id, stage_number)

    def test_a_stage_result_comes_back_with_its_task_results(self, store: MovableStore) -> None:
        """Up to a thousand task results are part of the stage result that a job carries."""
        start(store, new_job(stages=2), 3)
        lease = complete_one(store, report(claim_one(store, _TASKS), OK, BAD, OK)).advance
        assert lease is not None
        advance(store, lease, new_stage(2))
        result = get_job(store, _JOB).stage_results["1"]
        assert (result.stage_number, result.status) == (1, StageStatus.COMPLETED_WITH_ERRORS)
        assert (result.task_count, result.successful_tasks, result.failed_tasks, result.results_paged) == (3, 2, 1, False)
        assert [(task.task_index, task.status) for task in result.task_results] == [(0, OK), (1, BAD), (2, OK)]

    def test_the_task_results_of_a_wide_stage_are_read_elsewhere(self, store: MovableStore) -> None:
        """From a thousand and one on a stage result says that its task results are paged, and carries none."""
        start(store, _JOB, 1001, range_count=3)
        finish(store, run_all(store, _JOB))
        result = get_job(store, _JOB).stage_results["1"]
        assert (result.task_count, result.successful_tasks, result.results_paged, result.task_results) == (1001, 1001, True, [])

    def test_a_listed_job_carries_no_stage_results(self, store: MovableStore) -> None:
        """A list is light."""
        start(store, _JOB, 1)
        finish(store, run_all(store, _JOB))
        assert get_shallow_job(store, _JOB.job_id).stage_results == {}

    @pytest.mark.parametrize(
        "text",
        ["", "nonsense", "{}", "null", "[]", '{"stage_number":1}', '{"task_count":"three"}'],
    )
    def test_a_malformed_stage_result_is_loud(self, store: MovableStore, text: str) -> None:
        """A stored result that is no stage result is an error that names the job and the stage, never a default."""
        start(store, new_job(stages=2), 2)
        advance(store, run_all(store, _JOB), new_stage(2))
        self.corrupt_stage_result(store, _JOB.job_id, 1, text)
        with pytest.raises(StageResultsInvalidError) as caught:
            store.get_jobs([_JOB.job_id])
        assert _JOB.job_id[:8] in str(caught.value)
        assert "stage 1" in str(caught.value)

    def test_a_stage_result_whose_counts_lie_is_loud(self, store: MovableStore) -> None:
        """Counts that disagree with the task results are malformed too."""
        start(store, new_job(stages=2), 2)
        advance(store, run_all(store, _JOB), new_stage(2))
        text = get_stage(store, _JOB).stored_result
        assert text is not None
        self.corrupt_stage_result(store, _JOB.job_id, 1, text.replace('"task_count":2', '"task_count":3'))
        with pytest.raises(StageResultsInvalidError, match="stage 1"):
            store.get_jobs([_JOB.job_id])

    def test_a_malformed_stage_result_costs_other_jobs_nothing(self, store: MovableStore) -> None:
        """One bad row is found where it is read, and nowhere else."""
        start(store, new_job(stages=2), 2)
        advance(store, run_all(store, _JOB), new_stage(2))
        start(store, new_job("other"), 1)
        self.corrupt_stage_result(store, _JOB.job_id, 1, "nonsense")
        assert get_job(store, new_job("other")).stage_results == {}
        assert get_shallow_job(store, _JOB.job_id).stage == 2
        assert [lease.kind for lease in claim_all(store, _TASKS)] == [WorkKind.TASK]

    def test_results_of_two_stages_are_never_mixed(self, store: MovableStore) -> None:
        """Each stage result counts and carries its own tasks, whatever their indexes."""
        job = new_job(stages=2)
        start(store, job, 2)
        plan = advance(store, run_all(store, job), new_stage(2)).plan
        assert plan is not None
        store.add_tasks(chunk(plan, 3, range_count=3))
        leases = sorted(claim_all(store, _TASKS), key=lambda lease: lease.first)
        answers = complete(store, report(leases[0], OK), report(leases[1], BAD), report(leases[2], OK))
        ends = [answer.advance for answer in answers if answer.advance is not None]
        finish(store, ends[0])
        record = get_job(store, job)
        assert [len(record.stage_results[key].task_results) for key in ("1", "2")] == [2, 3]
        assert {task.stage_number for task in record.stage_results["2"].task_results} == {2}
        assert [task.status for task in record.stage_results["2"].task_results] == [OK, BAD, OK]
        assert claim_all(store, control_type(job)) == []
