"""What the ledger says against what the store says: the one knows nothing of the other."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.chaos.ledger import Deed, Line
from benchmarks.chaos.orders import Order
from benchmarks.chaos.team import Death
from stageflow import JobRecord, JobStatus, Stageflow, TaskRecord, TaskStatus

Place = tuple[str, int, int]
"""A task: its job, stage and index."""
_COMPLETED: Final = frozenset({JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS})
_MOST_TASKS: Final = 1000


class Book:
    """The lines of a ledger, by what they are asked for."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self.starts: dict[Place, list[Line]] = defaultdict(list)
        self.ends: dict[Place, list[Line]] = defaultdict(list)
        self.plans: dict[tuple[str, int, int], set[str]] = defaultdict(set)
        self.aggregates: dict[tuple[str, int], list[str]] = defaultdict(list)
        self.answers: dict[str, list[Line]] = defaultdict(list)
        self.refused = 0
        for line in lines:
            self._take(line)

    def _take(self, line: Line) -> None:
        match line.deed:
            case Deed.START:
                self.starts[line.job_id, line.stage, line.index].append(line)
            case Deed.END:
                self.ends[line.job_id, line.stage, line.index].append(line)
            case Deed.PLAN:
                self.plans[line.job_id, line.run, line.stage].add(line.token)
            case Deed.AGGREGATE:
                self.aggregates[line.job_id, line.stage].append(line.token)
            case Deed.ANSWER:
                self.answers[line.job_id].append(line)
            case Deed.REFUSED:
                self.refused += 1

    @property
    def attempts(self) -> int:
        """How often handlers were called."""
        return sum(len(lines) for lines in self.starts.values())

    def throughput(self, start: float, seconds: float) -> float:
        """Return the handler calls a second that ended in a window."""
        ends = sum(start <= line.at < start + seconds for lines in self.ends.values() for line in lines)
        return ends / seconds

    def slowest_recovery(self, deaths: list[Death], back: list[float]) -> float:
        """Return the longest time from a kill until the next call of a task that was lost with it, or from a server's return.

        Calls that nobody wanted any more, because the job ended in between, do not count.
        """
        killed_at = {death.pid: death.at for death in deaths}
        ended = {line.token for lines in self.ends.values() for line in lines}
        slowest = 0.0
        for lines in self.starts.values():
            for line in lines:
                if line.pid in killed_at and line.token not in ended:
                    later = [each.at for each in lines if each.at > killed_at[line.pid]]
                    slowest = max(slowest, min(later, default=killed_at[line.pid]) - killed_at[line.pid])
        begun = sorted(line.at for lines in self.starts.values() for line in lines)
        for moment in back:
            slowest = max(slowest, next((at for at in begun if at > moment), moment) - moment)
        return slowest


@dataclass
class Verdict:
    """What was found to be wrong, as sentences."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    tasks: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is."""
        return not (self.lost or self.doubled or self.stuck)


class Judge:
    """Compares the orders with the store and the ledger."""

    def __init__(self, app: Stageflow, book: Book) -> None:
        self._app = app
        self._book = book
        self.verdict = Verdict()

    def try_order(self, order: Order) -> None:
        """Look at one job."""
        job = self._app.repositories.jobs.get_job(order.job_id)
        if job is None:
            self.verdict.lost.append(f"job {order.job_id} ({order.load.shape}) is not in the store")
        elif not job.is_terminal or order.result is None:
            self.verdict.stuck.append(f"job {order.job_id} ({order.load.shape}) is {job.status}")
        else:
            self._ended(order, job)

    def _ended(self, order: Order, job: JobRecord) -> None:
        told = order.result
        if told is not None and (told.status, told.run, told.result_data) != (job.status, job.run, job.result_data):
            self._double(order, f"its orderer was told {told.status} of run {told.run}, and it is {job.status}")
        if order.cancelled:
            if job.status is not JobStatus.CANCELLED or job.result_data is not None:
                self._double(order, f"it was cancelled and is {job.status}")
        elif job.status not in _COMPLETED:
            self.verdict.lost.append(f"job {order.job_id} ({order.load.shape}) is {job.status}: {job.error_details}")
        else:
            self._completed(order, job)

    def _completed(self, order: Order, job: JobRecord) -> None:
        first, second = (self._tasks(order, job, number) for number in (1, 2))
        repaired_first = not order.load.broken or bool(order.repaired)
        wanted = [number for number in range(order.load.width) if repaired_first or number not in order.load.broken]
        numbers = [task.task_index for task in first if task.status is TaskStatus.COMPLETED]
        if numbers != wanted or len(second) != len(wanted):
            self._lose(order, f"of {len(wanted)} tasks a stage {len(numbers)} and {len(second)} are there")
        if [_text(task, "token") for task in first if task.status is TaskStatus.COMPLETED] != [
            str(task.parameters["source"]) for task in second
        ]:
            self._double(order, "stage 2 was planned from other results of stage 1 than are stored")
        self._seals(order, job, sum(wanted), len(wanted))
        if order.repaired:
            self._repaired(order, first)

    def _tasks(self, order: Order, job: JobRecord, number: int) -> list[TaskRecord]:
        tasks = self._app.repositories.tasks.list_tasks_for_job(job.job_id, number, 0, _MOST_TASKS)
        self.verdict.tasks += len(tasks)
        indexes = [task.task_index for task in tasks]
        if len(set(indexes)) != len(indexes):
            self._double(order, f"tasks of stage {number} are there twice")
        for task in tasks:
            if task.status is TaskStatus.COMPLETED:
                calls = {line.token for line in self._book.ends[job.job_id, number, task.task_index]}
                if _text(task, "token") not in calls:
                    self._lose(order, f"the result of task {number}-{task.task_index} is of none of its {len(calls)} calls")
            elif task.status is not TaskStatus.FAILED:
                self._lose(order, f"task {task.task_index} of stage {number} is {task.status} in a completed job")
        return tasks

    def _seals(self, order: Order, job: JobRecord, total: int, count: int) -> None:
        stored = {number: job.stage_results[str(number)].metadata for number in (1, 2)}
        for number, seal in stored.items():
            if self._book.aggregates[job.job_id, number].count(str(seal["token"])) != 1:
                self._double(order, f"the result of stage {number} is not that of exactly one call of its aggregate")
            if (seal["total"], seal["count"]) != (total, count):
                self._lose(order, f"stage {number} added up to {seal}, and should to {total} of {count}")
        seen = self._book.plans[job.job_id, job.run, 2]
        if seen != {stored[1]["token"]}:
            self._double(order, f"planners of stage 2 saw {len(seen)} results of stage 1, of which one is stored")
        answer = job.result_data if job.result_data is not None else {}
        of_it = [line for line in self._book.answers[job.job_id] if line.token == answer["token"]]
        if [list(line.seals) for line in of_it] != [[stored[1]["token"], stored[2]["token"]]] or answer["total"] != total:
            self._double(order, f"its answer {answer} is not that of one call for the stage results that are stored")

    def _repaired(self, order: Order, first: list[TaskRecord]) -> None:
        again = {
            index
            for (job_id, number, index), lines in self._book.starts.items()
            if (job_id, number) == (order.job_id, 1) and any(line.run > 1 for line in lines)
        }
        if again != set(order.repaired):
            self._double(order, f"tasks {sorted(again)} ran again, and {order.repaired} were to be repaired")
        for task in first:
            run = {line.run for line in self._book.ends[order.job_id, 1, task.task_index] if line.token == _text(task, "token")}
            if run != {2 if task.task_index in order.repaired else 1}:
                self._double(order, f"the result of task {task.task_index} is of run {run}")
        for index in range(order.load.width):
            if not any(line.run > 1 for line in self._book.ends[order.job_id, 2, index]):
                self._lose(order, f"task {index} of stage 2, which follows the repaired one, did not run again")

    def _lose(self, order: Order, what: str) -> None:
        self.verdict.lost.append(f"job {order.job_id} ({order.load.shape}): {what}")

    def _double(self, order: Order, what: str) -> None:
        self.verdict.doubled.append(f"job {order.job_id} ({order.load.shape}): {what}")


def _text(task: TaskRecord, name: str) -> str:
    return str(task.result_data[name]) if task.result_data is not None else ""
