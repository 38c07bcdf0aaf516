"""Fan-in: the three atomic operations, and the operator's hand on one task."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from psycopg.rows import TupleRow

from stageflow.backends.postgres.arrays import (
    Doubles,
    dense_array,
    flag_array,
    literal_array,
    number_array,
    packed,
    packed_lists,
)
from stageflow.backends.postgres.inside import run_inside
from stageflow.backends.postgres.rows import lease_from_rows
from stageflow.backends.postgres.sql_text import query
from stageflow.backends.postgres.tasks import Tasks
from stageflow.contracts.advancement import AdvanceOutcome, StageAdvance, StageAdvancementResult
from stageflow.contracts.job import JobClosing, JobCompletionResult
from stageflow.contracts.lease import CompletionOutcome, RangeCompletion, TaskCompletionResult
from stageflow.contracts.stage import HYDRATED_RESULTS, NewStage, StageResultContract, StageResultsFormatter
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import JobNotFoundError


class Completions(Tasks):
    """Satisfies ``stageflow.ports.CompletionStore``."""

    def complete_tasks(
        self,
        completions: Sequence[RangeCompletion],
        *,
        worker_id: str,
        lease_seconds: float,
        connection: object | None = None,
    ) -> list[TaskCompletionResult]:
        """Record the results of range prefixes and take them off the stages' counters.

        With a ``connection`` all this is part of its open transaction, as the last statement before the commit of its owner.
        """
        if not completions:
            return []
        parameters = (*_reports(completions), worker_id, lease_seconds)
        if connection is None:
            rows = self._database.write(query("complete_tasks"), parameters)
        else:
            rows = run_inside(self._database, connection, query("complete_tasks"), parameters, last=True)
        return [_answer([row[1:] for row in group]) for _, group in groupby(rows, key=itemgetter(0))]

    def close_task(
        self, job_id: str, stage_number: int, task_index: int, status: TaskStatus, error_details: str | None
    ) -> bool:
        """End or requeue one unfinished task by an operator's hand; ``False`` where it has ended."""
        ((closed,),) = self._database.write(
            query("close_task"), (job_id, stage_number, task_index, status.value, error_details)
        )
        return bool(closed)

    def advance_job_stages(
        self,
        advances: Sequence[StageAdvance],
        *,
        worker_id: str,
        lease_seconds: float,
    ) -> list[StageAdvancementResult]:
        """Store stages' results and open what follows them; each by compare-and-set on its job's stage and on processing."""
        inner, outer, columns, texts = self._openings(
            [advance.next_stages for advance in advances],
            [advance.stage_status for advance in advances],
            [advance.stage_result for advance in advances],
        )
        rows = self._database.write(
            query("advance_job_stages"),
            (
                inner,
                outer,
                dense_array([advance.range_id for advance in advances]),
                dense_array([advance.token for advance in advances]),
                dense_array([advance.stage_id for advance in advances]),
                *texts,
                *columns,
                worker_id,
                lease_seconds,
            ),
        )
        answers = {place: _advanced([row[1:] for row in group]) for place, group in groupby(rows, key=itemgetter(0))}
        return [answers[place] for place in range(1, len(advances) + 1)]

    def check_job_completions(self, closings: Sequence[JobClosing]) -> list[JobCompletionResult]:
        """Under each job's row lock: store the last stage's result, and end the job if every stage is closed."""
        inner, outer, columns, (job_ids, statuses, results, answers) = self._openings(
            [closing.skipped for closing in closings],
            [closing.job_id for closing in closings],
            [closing.stage_status for closing in closings],
            [closing.stage_result for closing in closings],
            [closing.result_data for closing in closings],
        )
        rows = self._database.write(
            query("check_job_completions"),
            (
                inner,
                outer,
                number_array([closing.range_id for closing in closings]),
                number_array([closing.token for closing in closings]),
                job_ids,
                number_array([closing.stage_id for closing in closings]),
                statuses,
                results,
                answers,
                *columns,
            ),
        )
        return [self._completion(closing, row) for closing, row in zip(closings, rows, strict=True)]

    def _completion(self, closing: JobClosing, row: TupleRow) -> JobCompletionResult:
        complete, updated, status, final_stage, final_stage_id, total, successful, failed = row
        if status is None:
            msg = f"there is no job {closing.job_id}; use the job_id that submit returned"
            raise JobNotFoundError(msg)
        looks = closing.token is None and final_stage_id is not None
        results = self.list_task_results(final_stage_id, first_index=0, limit=HYDRATED_RESULTS) if looks else []
        return JobCompletionResult(
            job_id=closing.job_id,
            job_complete=complete,
            job_updated=updated,
            status=JobStatus(status),
            final_stage=final_stage,
            total_tasks=total,
            successful_tasks=successful,
            failed_tasks=failed,
            task_results=results,
        )

    def _openings(
        self, following: Sequence[Sequence[NewStage]], *others: Sequence[str | None]
    ) -> tuple[str, str, list[object], list[str]]:
        """Return what is opened after several stages as parallel lists of lists, and packed beside them other texts of each.

        First the two separators: that of a list, and that of the lists. A skipped stage brings its stored result along.
        """
        inner, lists = packed_lists(
            [[stage.name for stage in stages] for stages in following],
            [[stage.task_type for stage in stages] for stages in following],
            [[self._skipped_result(stage) if stage.skipped else None for stage in stages] for stages in following],
        )
        outer, (names, task_types, skipped_results, *texts) = packed(*lists, *others)
        columns: list[object] = [
            literal_array([dense_array([stage.stage_number for stage in stages]) for stages in following]),
            names,
            task_types,
            literal_array([flag_array([stage.fail_fast for stage in stages]) for stages in following]),
            literal_array([number_array([stage.minimum_success_rate for stage in stages]) for stages in following]),
            literal_array([dense_array([stage.group_first for stage in stages]) for stages in following]),
            literal_array([dense_array([stage.group_last for stage in stages]) for stages in following]),
            skipped_results,
        ]
        return inner, outer, columns, texts

    def _skipped_result(self, stage: NewStage) -> str:
        return StageResultsFormatter.to_stored(
            StageResultContract(
                stage_number=stage.stage_number,
                status=StageStatus.SKIPPED,
                task_count=0,
                successful_tasks=0,
                failed_tasks=0,
                success_rate=100.0,
                completed_at=self._database.now(),
            )
        )


def _advanced(rows: list[TupleRow]) -> StageAdvancementResult:
    outcome, new_stage, is_final, plan_range_id, *_ = rows[0]
    return StageAdvancementResult(
        outcome=AdvanceOutcome(outcome),
        job_updated=outcome == AdvanceOutcome.ADVANCED,
        new_stage=new_stage,
        is_final_stage=is_final,
        plan=None if plan_range_id is None else lease_from_rows([row[3:] for row in rows]),
    )


def _answer(rows: list[TupleRow]) -> TaskCompletionResult:
    outcome, is_last, job_id, stage_number, remaining, halted, advance_range_id, *_ = rows[0]
    return TaskCompletionResult(
        outcome=CompletionOutcome(outcome),
        task_updated=outcome == CompletionOutcome.RECORDED,
        is_last_task_in_stage=is_last,
        job_id=job_id,
        stage_number=stage_number,
        remaining_tasks=remaining,
        stage_halted=halted,
        advance=None if advance_range_id is None else lease_from_rows([row[6:] for row in rows]),
    )


def _reports(completions: Sequence[RangeCompletion]) -> list[object]:
    """Return the reports as the parallel lists of ``stageflow.complete_tasks``; all-null ones are left empty."""
    statuses: list[TaskStatus] = []
    results: list[str | None] = []
    errors: list[str | None] = []
    seconds: list[float] = []
    times: list[float] = []
    delays: list[float | None] = []
    for completion in completions:
        statuses += completion.statuses
        results += completion.results
        seconds += completion.seconds
        times += completion.completed_at
        if completion.retries:
            of_index = {retry.task_index: retry for retry in completion.retries}
            places = range(completion.first, completion.first + len(completion.statuses))
            errors += [
                of_index[index].error_details if index in of_index else error
                for index, error in zip(places, completion.errors, strict=True)
            ]
            delays += [of_index[index].delay_seconds if index in of_index else None for index in places]
        else:
            errors += completion.errors
            delays += [None] * len(completion.statuses)
    all_completed = statuses.count(TaskStatus.COMPLETED) == len(statuses)
    partials = [(place, partial) for place, report in enumerate(completions, start=1) for partial in report.partials]
    values = [partial.value for _, partial in partials]
    separator, (*texts, values_text) = packed([] if all_completed else statuses, results, errors if any(errors) else [], values)
    return [
        separator,
        dense_array([completion.range_id for completion in completions]),
        dense_array([completion.token for completion in completions]),
        dense_array([completion.stage_id for completion in completions]),
        dense_array([completion.first for completion in completions]),
        dense_array([len(completion.statuses) for completion in completions]),
        *texts,
        number_array(delays) if any(completion.retries for completion in completions) else "{}",
        Doubles(seconds),
        Doubles(times),
        dense_array([place for place, _ in partials]),
        dense_array([partial.first for _, partial in partials]),
        dense_array([partial.last for _, partial in partials]),
        dense_array([partial.successful_tasks for _, partial in partials]),
        values_text,
    ]
