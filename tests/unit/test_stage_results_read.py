"""What reading a stage's results asks of the store, gives, and says where it cannot."""

from typing import Any

import pytest
from pydantic import Field

from stageflow import Contract, StageResults, StageResultsInvalidError, TaskFailedError, TaskStatus, WorkflowDefinitionError
from stageflow.contracts.partial import Partial
from stageflow.contracts.payload import PayloadReference
from stageflow.contracts.results import PAGE_SIZE, PARTIALS_PAGE_SIZE, Combination, PayloadLoader, ResultRow

MEND = (
    "something else wrote to the store: `stageflow doctor` names what is wrong with unfinished jobs; correct the row by hand, "
    "or `stageflow cancel` the job and submit it again"
)
REFERENCE = PayloadReference(size_bytes=9, sha256="c" * 64, job_id="d" * 64).to_text()


class Part(Contract):
    """Something inside of a result."""

    size: int = 0


class Text(Contract):
    """A result whose combination depends on the order."""

    text: str
    parts: list[Part] = Field(default_factory=list)


def _join(left: Text, right: Text) -> Text:
    return Text(text=left.text + right.text)


def _row(index: int, text: str | None, status: TaskStatus = TaskStatus.COMPLETED) -> ResultRow:
    error = None if status is TaskStatus.COMPLETED else "it broke"
    return ResultRow(task_index=index, attempt=1, status=status, result=text, error_details=error)


def _rows(letters: str) -> list[ResultRow]:
    """Return a row a letter: ``-`` failed, ``_`` was deleted."""
    found = [(index, letter) for index, letter in enumerate(letters) if letter != "_"]
    return [
        _row(index, None, TaskStatus.FAILED) if letter == "-" else _row(index, f'{{"text":"{letter}"}}')
        for index, letter in found
    ]


def _partial(first: int, text: str, last: int | None = None) -> Partial:
    end = first + len(text) if last is None else last
    return Partial(first=first, last=end, successful_tasks=len(text), value=Text(text=text).to_json())


class Stage:
    """Stored results, and what was asked for."""

    def __init__(self, rows: list[ResultRow], partials: list[Partial] | None = None) -> None:
        self.rows = rows
        self.partials = partials
        self.asked: list[tuple[int, int, bool]] = []
        self.asked_partials: list[tuple[int, int]] = []

    def read(
        self,
        *,
        count: int,
        successful: int | None = None,
        model: type[Contract] | None = Text,
        load_payload: PayloadLoader | None = None,
    ) -> StageResults[Any]:
        """Return the results of stage 3."""
        good = sum(row.status is TaskStatus.COMPLETED for row in self.rows) if successful is None else successful
        return StageResults(
            stage_number=3,
            model=model,
            task_count=count,
            successful_tasks=good,
            load=self._load,
            combination=None if self.partials is None else Combination(_join, self._load_partials),
            **({} if load_payload is None else {"load_payload": load_payload}),
        )

    def _load(self, first: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001 - a page loader
        self.asked.append((first, limit, failed_only))
        wanted = (row for row in self.rows if row.task_index >= first)
        return [row for row in wanted if not failed_only or row.status is TaskStatus.FAILED][:limit]

    def _load_partials(self, first: int, limit: int) -> list[Partial]:
        self.asked_partials.append((first, limit))
        return [partial for partial in self.partials or [] if partial.first >= first][:limit]


def test_one_result_is_read_by_itself_and_negative_indexes_count_from_the_end() -> None:
    """A look at one result costs one row, the first and the last included."""
    stage = Stage(_rows("abc"))
    results = stage.read(count=3)

    assert [results[0].text, results[2].text, results[-1].text, results[-3].text] == ["a", "c", "c", "a"]
    assert stage.asked == [(0, 1, False), (2, 1, False), (2, 1, False), (0, 1, False)]
    assert (len(results), results.task_count, results.stage_number) == (3, 3, 3)


@pytest.mark.parametrize(
    ("letters", "count", "index", "error", "told"),
    [
        ("ab", 2, 2, IndexError, "stage 3 has tasks 0 to 1, not 2"),
        ("ab", 2, -3, IndexError, "stage 3 has tasks 0 to 1, not -3"),
        ("a-", 2, 1, TaskFailedError, "task 1 of stage 3 is failed: it broke; see failures()"),
        ("a_c", 3, 1, StageResultsInvalidError, f"task 1 of stage 3 has no stored result; {MEND}"),
        ("ab_", 3, 2, StageResultsInvalidError, f"task 2 of stage 3 has no stored result; {MEND}"),
    ],
)
def test_a_result_that_is_not_there_is_told_with_its_task_and_stage(
    letters: str, count: int, index: int, error: type[Exception], told: str
) -> None:
    """No index, a failed task and a deleted row are three errors; none gives a neighbour's result."""
    with pytest.raises(error) as caught:
        Stage(_rows(letters)).read(count=count)[index]

    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("stored", "field"),
    [
        ('{"text":1}', "text: Input should be a valid string"),
        ('{"text":"a","parts":[{"size":1},{"size":"b"}]}', "parts.1.size: Input should be a valid integer"),
        ('{"text":1,"more":2}', "text: Input should be a valid string"),
        ("[]", "the whole: Input should be an object"),
        (None, "the whole: Invalid JSON: EOF while parsing a value at line 1 column 0"),
    ],
)
def test_a_result_that_no_longer_validates_names_the_first_bad_field(stored: str | None, field: str) -> None:
    """A changed model is found by its task, stage, class and field."""
    with pytest.raises(StageResultsInvalidError) as caught:
        list(Stage([_row(0, stored)]).read(count=1))

    assert str(caught.value) == f"stored result of task 0 of stage 3 is no Text: {field}"


def test_a_stage_without_a_model_has_none_for_each_completed_task() -> None:
    """What is stored is not read then."""
    results = Stage([_row(0, "3"), _row(1, REFERENCE), _row(2, None, TaskStatus.FAILED)]).read(count=3, model=None)

    assert list(results) == [None, None]
    assert results[1] is None


def test_a_large_result_is_loaded_by_its_reference() -> None:
    """The loader gets the reference, and the words for what it is."""
    asked = []

    def load_payload(reference: str, what: str) -> str:
        asked.append((reference, what))
        return '{"text":"large"}'

    results = Stage([_row(0, '{"text":"a"}'), _row(1, REFERENCE)]).read(count=2, load_payload=load_payload)

    assert [result.text for result in results] == ["a", "large"]
    assert asked == [(REFERENCE, "stored result of task 1 of stage 3")]


def test_a_large_result_without_a_loader_is_an_error() -> None:
    """A reference is never taken for a result."""
    with pytest.raises(StageResultsInvalidError) as caught:
        list(Stage([_row(0, REFERENCE)]).read(count=1))

    assert str(caught.value) == f"stored result of task 0 of stage 3 is {REFERENCE}, and nothing was given to load it with"


def _pages(width: int) -> list[tuple[int, int]]:
    stage = Stage([_row(index, "{}") for index in range(width)])
    assert [index for index, _ in stage.read(count=width, model=None).items()] == list(range(width))
    assert {failed_only for _, _, failed_only in stage.asked} == {False}
    return [(first, limit) for first, limit, _ in stage.asked]


def test_pages_double_up_to_the_largest_and_end_with_the_rows() -> None:
    """A planner begins after few rows; a wide stage takes few reads; a short page is the last."""
    assert _pages(0) == [(0, 500)]
    assert _pages(499) == [(0, 500)]
    assert _pages(500) == [(0, 500), (500, 1000)]
    assert _pages(1499) == [(0, 500), (500, 1000)]
    assert _pages(12_600) == [(0, 500), (500, 1000), (1500, 2000), (3500, 4000), (7500, 5000), (12_500, 5000)]


def test_failures_are_asked_for_alone() -> None:
    """The rows of completed tasks are not read to find those that failed."""
    stage = Stage(_rows("a-b-"))
    results = stage.read(count=4)

    assert [row.task_index for row in results.failures()] == [1, 3]
    assert [result.text for result in results] == ["a", "b"]
    assert stage.asked == [(0, 500, True), (0, 500, False)]


def test_a_stage_without_a_combine_says_how_one_is_declared() -> None:
    """The message has the signature to write."""
    with pytest.raises(WorkflowDefinitionError) as caught:
        Stage(_rows("a")).read(count=1).combined()

    assert str(caught.value) == (
        "stage 3 declares no combine; write @the_stage.combine above a method "
        "`def add(self, left: R, right: R) -> R` of its controller, where R is the result model of its task"
    )


@pytest.mark.parametrize(
    ("letters", "partials", "combined", "asked"),
    [
        ("", [], None, []),
        ("--", [], None, []),
        ("a", [], "a", [(0, 1, False)]),
        ("abc", [_partial(0, "abc")], "abc", []),
        ("a-c", [_partial(0, "ac", 3)], "ac", []),
        ("-b-", [_partial(1, "b")], "b", []),
        ("abcd", [_partial(0, "ab"), _partial(2, "cd")], "abcd", []),
        ("abcd", [_partial(1, "b"), _partial(3, "d")], "abcd", [(0, 1, False), (2, 1, False)]),
        ("abcd", [_partial(0, "b")], "bbcd", [(1, 3, False)]),
        ("abcd", [_partial(2, "c")], "abcd", [(0, 2, False), (3, 1, False)]),
        ("abcdef", [_partial(0, "ab"), _partial(2, "cd")], "abcdef", [(4, 2, False)]),
        ("ab-def", [_partial(3, "de")], "abdef", [(0, 3, False), (5, 1, False)]),
        ("ab", [], "ab", [(0, 2, False)]),
        ("a-", [], "a", [(0, 2, False)]),
    ],
)
def test_results_are_combined_in_order_and_only_what_no_partial_holds_is_read(
    letters: str, partials: list[Partial], combined: str | None, asked: list[tuple[int, int, bool]]
) -> None:
    """The answer is that of a fold over all results; a second question costs nothing."""
    stage = Stage(_rows(letters), partials)
    results = stage.read(count=len(letters))

    answers = [results.combined(), results.combined()]

    assert answers == [None if combined is None else Text(text=combined)] * 2
    assert answers[0] is answers[1]
    assert stage.asked == asked
    assert stage.asked_partials == [(0, PARTIALS_PAGE_SIZE)] * 2


def test_many_partials_are_read_in_pages() -> None:
    """A full page is followed by the one that begins where it ends."""
    width = PARTIALS_PAGE_SIZE
    stage = Stage([], [_partial(3 * index, "xy", 3 * index + 3) for index in range(width)])

    assert stage.read(count=3 * width, successful=2 * width).combined() == Text(text="xy" * width)
    assert stage.asked_partials == [(0, width), (3 * width, width)] * 2


def test_a_wide_gap_between_partials_is_read_in_pages() -> None:
    """No more than a page of rows is held at a time, and none of them twice."""
    width = PAGE_SIZE + 2
    stage = Stage(_rows("x" * width + "y"), [_partial(width, "y")])

    assert stage.read(count=width + 1).combined() == Text(text="x" * width + "y")
    assert stage.asked == [(0, PAGE_SIZE, False), (PAGE_SIZE, 2, False)]


@pytest.mark.parametrize(
    ("letters", "partials", "successful", "apart"),
    [
        ("a_cd", [_partial(2, "c")], 4, "-1"),
        ("a_c-", [_partial(2, "c")], 3, "-1"),
        ("_____", [], 3, "-3"),
        ("ab", [_partial(0, "ab")], 1, "+1"),
        ("abc", [_partial(2, "c")], 2, "+1"),
    ],
)
def test_results_that_do_not_add_up_are_refused(letters: str, partials: list[Partial], successful: int, apart: str) -> None:
    """A deleted row is never silently left out of an answer, and none is counted twice."""
    with pytest.raises(StageResultsInvalidError) as caught:
        Stage(_rows(letters), partials).read(count=len(letters), successful=successful).combined()

    assert str(caught.value) == (
        f"results and partials of stage 3 do not add up to its {successful} completed tasks ({apart}); "
        "rows of it were changed or deleted, restore them"
    )


def test_a_deleted_row_before_a_partial_is_not_replaced_by_one_that_the_partial_holds() -> None:
    """What is read between partials ends where the next one begins."""
    stage = Stage(_rows("a_cd"), [_partial(2, "cd")])

    assert stage.read(count=4, successful=3).combined() == Text(text="acd")
    assert stage.asked == [(0, 2, False)]


def test_a_partial_that_no_longer_validates_is_told_with_its_tasks() -> None:
    """A partial is the stage's result model, too."""
    bad = Partial(first=0, last=4, successful_tasks=2, value='{"text":1}')

    with pytest.raises(StageResultsInvalidError) as caught:
        Stage(_rows("a-b-"), [bad]).read(count=4).combined()

    assert str(caught.value) == ("the combination of tasks [0, 4) of stage 3 is no Text: text: Input should be a valid string")
