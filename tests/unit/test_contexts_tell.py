"""What user code can ask of its context, what of it reaches the host, and what it is told where it cannot be."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from stageflow import (
    Contract,
    InvalidValueError,
    JobExecutionContext,
    StageResultContract,
    StageResultsMissingError,
    TaskCancelledError,
)
from stageflow.contracts.context import FixedSignal, TaskExecutionContext, TaskHost
from stageflow.contracts.stored_results import StoredStageResults
from stageflow.errors import HostMissingError

NOW = datetime(2026, 5, 17, tzinfo=UTC)
JOB = "0123456789ab" + "c" * 52


class Number(Contract):
    """A result, and a checkpoint."""

    value: int


class Letter(Contract):
    """Another one."""

    letter: str


class Host(TaskHost):
    """A host that notes what it is asked for."""

    def __init__(self, *, stored: str | None = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.stored = stored

    @property
    def stopping(self) -> bool:
        """Not yet."""
        return False

    def note_progress(self, context: TaskExecutionContext, done: float, total: float) -> None:
        """Note it."""
        self.asked.append(("progress", context.task_index, done, total))

    def read_predecessor(self, context: TaskExecutionContext) -> Contract:
        """Give a number."""
        self.asked.append(("predecessor", context.task_index))
        return Number(value=7)

    def write_checkpoint(self, context: TaskExecutionContext, value: str) -> None:
        """Keep it."""
        self.asked.append(("checkpoint", context.task_index))
        self.stored = value

    def read_checkpoint(self, context: TaskExecutionContext) -> str | None:
        """Give it back."""
        self.asked.append(("last_checkpoint", context.task_index))
        return self.stored

    def open_transaction(self, context: TaskExecutionContext) -> Any:
        """Give something."""
        self.asked.append(("transaction", context.task_index))
        return "a connection"


def _context(signal: Any) -> TaskExecutionContext:
    return TaskExecutionContext(job_id=JOB, job_type="j", stage_number=2, task_index=5, task_type="shout", signal=signal)


def test_what_a_handler_asks_for_reaches_its_host_with_its_context() -> None:
    """Each method asks the host for the same task, and gives its answer."""
    host = Host()
    context = _context(host)

    context.progress(1, 4)
    assert context.last_checkpoint(Number) is None
    context.checkpoint(Number(value=3))
    assert context.last_checkpoint(Number) == Number(value=3)
    assert context.predecessor() == context.predecessor(Number) == Number(value=7)
    assert context.transaction() == "a connection"

    assert host.asked == [
        ("progress", 5, 1, 4),
        ("last_checkpoint", 5),
        ("checkpoint", 5),
        ("last_checkpoint", 5),
        ("predecessor", 5),
        ("predecessor", 5),
        ("transaction", 5),
    ]


@pytest.mark.parametrize(
    ("asked", "ask"),
    [
        ("progress", lambda context: context.progress(1, 2)),
        ("predecessor", lambda context: context.predecessor()),
        ("checkpoint", lambda context: context.checkpoint(Number(value=1))),
        ("last_checkpoint", lambda context: context.last_checkpoint(Number)),
        ("transaction", lambda context: context.transaction()),
    ],
)
def test_a_context_without_a_host_names_what_was_asked_and_how_a_test_makes_one(asked: str, ask: Any) -> None:
    """Who calls a handler by hand is told what to call it with."""
    with pytest.raises(HostMissingError) as caught:
        ask(_context(FixedSignal(stopping=False)))

    assert str(caught.value) == (
        f"context.{asked}() needs a worker, and this context has none; in a test, make it with stageflow.testing.task_context"
    )


@pytest.mark.parametrize(("done", "total"), [(0, 1), (1, 1), (0.5, 0.5), (0, 0.5), (0.25, 0.5), (3, 4.0)])
def test_progress_from_nothing_to_all_is_told(done: float, total: float) -> None:
    """Both ends count, and parts of a unit do."""
    host = Host()

    _context(host).progress(done, total)

    assert host.asked == [("progress", 5, done, total)]


@pytest.mark.parametrize(
    ("done", "total"), [(-1, 2), (3, 2), (0, 0), (1, 0), (0, -1), (1, math.inf), (math.nan, 2), (1, math.nan)]
)
def test_progress_that_says_nothing_is_refused(done: float, total: float) -> None:
    """A bar cannot show it; the message repeats the call."""
    host = Host()

    with pytest.raises(InvalidValueError) as caught:
        _context(host).progress(done, total)

    assert str(caught.value) == (
        f"progress({done}, {total}) says nothing; give how much is done, from 0 on, and how much that is of in all"
    )
    assert host.asked == []


def test_a_predecessor_of_another_model_is_refused_with_its_name() -> None:
    """The handler learns what the stage before really gives."""
    with pytest.raises(InvalidValueError) as caught:
        _context(Host()).predecessor(Letter)

    assert str(caught.value) == ("context.predecessor(Letter) of task 'shout': the stage before gives Number; ask for that")


def test_a_checkpoint_of_another_model_is_refused_with_what_to_do() -> None:
    """An old checkpoint does not end in a bare validation error."""
    with pytest.raises(InvalidValueError) as caught:
        _context(Host(stored='{"letter":"a"}')).last_checkpoint(Number)

    told = str(caught.value)
    assert told.startswith("the checkpoint of task 5 of stage 2 is no Number: 2 validation errors for Number\nvalue\n")
    assert told.endswith("; read it as the model that stored it, or give new fields defaults")


def test_check_stops_a_handler_whose_work_is_no_longer_wanted() -> None:
    """And does nothing before that; without a worker, nobody stops it."""
    _context(FixedSignal(stopping=False)).check()
    TaskExecutionContext(job_id=JOB, job_type="j", stage_number=2, task_index=5, task_type="t").check()
    stopping = _context(FixedSignal(stopping=True))

    assert stopping.cancelled is True
    assert _context(FixedSignal(stopping=False)).cancelled is False
    with pytest.raises(TaskCancelledError) as caught:
        stopping.check()

    assert str(caught.value) == "task 5 of stage 2 is no longer wanted; stop"


def _result(stage_number: int) -> StageResultContract:
    return StageResultContract.from_task_results(stage_number, [], completed_at=NOW)


def _job(*stages: int) -> JobExecutionContext[Number]:
    return JobExecutionContext[Number](
        job_id=JOB,
        job_type="j",
        run=4,
        total_stages=12,
        parameters=Number(value=1),
        stage_results={str(stage): _result(stage) for stage in stages},
    )


@pytest.mark.parametrize(("stages", "there"), [((), "none"), ((1,), "1"), ((10, 2, 1), "1, 2, 10")])
def test_a_missing_stage_result_is_told_with_those_that_are_there(stages: tuple[int, ...], there: str) -> None:
    """In the order of the stages, not of their names."""
    with pytest.raises(StageResultsMissingError) as caught:
        _job(*stages).get_stage_result(3)

    assert str(caught.value) == f"job 0123456789ab has no result of stage 3; stages with a result: {there}"


def test_a_context_with_one_more_result_keeps_all_else() -> None:
    """The context itself stays as it is."""
    job = _job(1, 2)

    more = job.set_stage_result(3, _result(3))

    assert type(more) is JobExecutionContext[Number]
    assert more == _job(1, 2, 3)
    assert more.run == 4
    assert [more.get_stage_result(number) for number in (1, 2, 3)] == [_result(1), _result(2), _result(3)]
    assert job == _job(1, 2)


def test_a_result_under_the_key_of_another_stage_is_refused() -> None:
    """A planner never gets the results of the wrong stage."""
    with pytest.raises(ValidationError) as caught:
        JobExecutionContext[Number](
            job_id=JOB, job_type="j", total_stages=2, parameters=Number(value=1), stage_results={"2": _result(1)}
        )

    assert [error["msg"] for error in caught.value.errors()] == ["Value error, stage_results['2'] holds the result of stage 1"]


def test_results_are_written_as_a_plain_object() -> None:
    """However they are held; what is in the store is read for it."""
    stored = StoredStageResults({1: lambda: _result(1), 2: lambda: _result(2)})
    job = _job().model_copy(update={"stage_results": stored})
    checked = JobExecutionContext[Number](
        job_id=JOB, job_type="j", run=4, total_stages=12, parameters=Number(value=1), stage_results=stored
    )

    assert checked.stage_results is stored
    assert job.model_dump() == checked.model_dump() == _job(1, 2).model_dump()
    assert job.model_dump()["stage_results"] == {"1": _result(1).model_dump(), "2": _result(2).model_dump()}
    assert job.model_dump_json() == _job(1, 2).model_dump_json()
