"""Results combined as they come, and at the end: each once, in index order, read only where no partial holds them."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stageflow import Contract, StageResults, StageResultsInvalidError, TaskStatus, WorkflowDefinitionError
from stageflow.contracts.base import INLINE_BYTES
from stageflow.contracts.lease import RangeCompletion, Retry
from stageflow.contracts.partial import Partial
from stageflow.contracts.results import PAGE_SIZE, PARTIALS_PAGE_SIZE, Combination, ResultRow
from stageflow.engine.fold import ResultFold
from stageflow.testing import stage_results


class Words(Contract):
    """A result."""

    text: str


def join(left: Words, right: Words) -> Words:
    """Put two neighbours together."""
    return Words(text=left.text + right.text)


def partial(first: int, last: int, text: str, successful_tasks: int | None = None) -> Partial:
    """Return a partial of tasks all of which completed, unless said otherwise."""
    return Partial(first=first, last=last, successful_tasks=successful_tasks or last - first, value=Words(text=text).to_json())


class Stored:
    """Results and partials in memory; notes which results are read."""

    def __init__(self, texts: list[str | None], partials: list[Partial]) -> None:
        self.texts = texts
        self.partials = partials
        self.read: list[int] = []

    def load(self, first: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001  the shape of a page loader
        """Return a page of results."""
        assert not failed_only
        indexes = range(first, min(first + limit, len(self.texts)))
        self.read += indexes
        return [self._row(index, self.texts[index]) for index in indexes]

    def load_partials(self, first: int, limit: int) -> list[Partial]:
        """Return a page of partials."""
        return [each for each in self.partials if each.first >= first][:limit]

    def results(self, combine: Callable[[Any, Any], Any] = join, *, successful: int | None = None) -> StageResults[Words]:
        """Return them as a hook gets them."""
        return StageResults(
            stage_number=1,
            model=Words,
            task_count=len(self.texts),
            successful_tasks=sum(text is not None for text in self.texts) if successful is None else successful,
            load=self.load,
            combination=Combination(combine, self.load_partials),
        )

    @staticmethod
    def _row(index: int, text: str | None) -> ResultRow:
        return ResultRow(
            task_index=index,
            attempt=1,
            status=TaskStatus.FAILED if text is None else TaskStatus.COMPLETED,
            result=None if text is None else Words(text=text).to_json(),
            error_details="it broke" if text is None else None,
        )


class TestCombined:
    """What ``StageResults.combined`` gives."""

    def test_partials_that_hold_every_result_are_enough(self) -> None:
        """No result is read, though failed tasks leave gaps between partials."""
        stored = Stored(["a", None, "c", None, "e"], [partial(0, 2, "a", 1), partial(2, 3, "c"), partial(4, 5, "e")])
        assert stored.results().combined() == Words(text="ace")
        assert stored.read == []

    def test_results_without_a_partial_are_folded_in_their_place(self) -> None:
        """Before, between and after partials; no more is read than lies between them."""
        stored = Stored(["a", "b", "c", None, "e", "f", None, None], [partial(1, 2, "b"), partial(4, 5, "e")])
        assert stored.results().combined() == Words(text="abcef")
        assert stored.read == [0, 2, 3, 5, 6, 7]

    def test_nothing_completed_is_none(self) -> None:
        """Of an empty stage, and of one whose tasks all failed."""
        assert Stored([], []).results().combined() is None
        assert Stored([None, None], []).results().combined() is None

    def test_many_partials_and_results_are_read_page_by_page(self) -> None:
        """Page borders lose nothing and repeat nothing."""
        count = 2 * PARTIALS_PAGE_SIZE + 1
        stored = Stored(
            [f"{index} " for index in range(count)], [partial(index, index + 1, f"{index} ") for index in range(count)]
        )
        expected = Words(text="".join(f"{index} " for index in range(count)))
        assert stored.results().combined() == expected
        assert stored.read == []
        wide = Stored(["x"] * (PAGE_SIZE + 1), [])
        assert wide.results().combined() == Words(text="x" * (PAGE_SIZE + 1))

    def test_a_second_call_reads_nothing(self) -> None:
        """Hooks may ask as often as they like."""
        stored = Stored(["a", "b"], [])
        results = stored.results()
        assert results.combined() is results.combined()
        assert stored.read == [0, 1]

    def test_without_a_combine_it_says_what_to_declare(self) -> None:
        """Asked for on a stage that declares none, it is a mistake of the workflow."""
        with pytest.raises(WorkflowDefinitionError, match=r"stage 1 declares no combine; write @the_stage\.combine above"):
            stage_results([Words(text="a")]).combined()

    def test_results_in_a_unit_test_are_combined_without_a_store(self) -> None:
        """The test kit's results take the method that the stage declares."""
        results = stage_results([Words(text="a"), Words(text="b")], failed={1: "x"}, combine=join)
        assert results.combined() == Words(text="ab")

    @pytest.mark.parametrize("successful", [1, 3])
    def test_what_does_not_add_up_is_loud(self, successful: int) -> None:
        """Partials and results that are not the tasks which completed were changed by somebody."""
        stored = Stored(["a", "b"], [partial(0, 2, "ab")])
        with pytest.raises(StageResultsInvalidError, match=rf"do not add up to its {successful} completed tasks \([+-]1\)"):
            stored.results(successful=successful).combined()

    def test_a_partial_that_is_no_result_names_its_tasks(self) -> None:
        """What no longer validates is loud."""
        stored = Stored(["a"], [Partial(first=0, last=1, successful_tasks=1, value="{}")])
        with pytest.raises(StageResultsInvalidError, match=r"the combination of tasks \[0, 1\) of stage 1 is no Words: text"):
            stored.results().combined()

    def test_what_combine_raises_reaches_the_caller(self) -> None:
        """An error is not swallowed where the results are asked for."""
        with pytest.raises(ZeroDivisionError):
            Stored(["a", "b"], []).results(lambda _left, _right: 1 / 0).combined()


class TestResultFold:
    """What a worker combines."""

    @given(st.lists(st.sampled_from(["completed", "failed", "again"]), max_size=12))
    def test_the_partials_hold_every_result_once_and_in_order(self, outcomes: list[str]) -> None:
        """Whatever becomes of the tasks, the fold of the partials is the fold of the results, and a report takes them."""
        fold = ResultFold(join, 7)
        for index, outcome in enumerate(outcomes, start=7):
            match outcome:
                case "completed":
                    fold.add(Words(text=f"{index} "))
                case "failed":
                    fold.pass_over()
                case _:
                    fold.interrupt()
        partials = fold.partials()
        texts = [f"{index} " for index, outcome in enumerate(outcomes, start=7) if outcome == "completed"]
        assert "".join(Words.from_json(each.value).text for each in partials) == "".join(texts)
        assert sum(each.successful_tasks for each in partials) == len(texts)
        if outcomes:
            assert self._report(outcomes, partials).partials == partials

    def test_a_combination_that_fails_gives_no_partial_and_disturbs_no_other(self) -> None:
        """The run in which it failed is left to whoever closes the stage; those before and after a retry are not."""
        calls: list[str] = []

        def refuse_b(left: Words, right: Words) -> Words:
            calls.append(left.text + right.text)
            if right.text == "b":
                raise SystemExit
            return join(left, right)

        fold = ResultFold(refuse_b, 0)
        for text in ("a", "b", "c", None, "d", "e"):
            if text is None:
                fold.interrupt()
            else:
                fold.add(Words(text=text))
        assert fold.partials() == [partial(4, 6, "de")]
        assert calls == ["ab", "de"]

    @pytest.mark.parametrize(
        "result",
        [
            Words(text="x" * INLINE_BYTES),
            Words(text="a\0b"),
        ],
        ids=["too large", "NUL"],
    )
    def test_a_combination_that_cannot_be_stored_gives_no_partial(self, result: Words) -> None:
        """Its results are stored one by one, and folded from there."""
        fold = ResultFold(lambda _left, _right: result, 0)
        fold.add(Words(text="a"))
        fold.add(Words(text="b"))
        assert fold.partials() == []

    @staticmethod
    def _report(outcomes: list[str], partials: list[Partial]) -> RangeCompletion:
        status = {"completed": TaskStatus.COMPLETED, "failed": TaskStatus.FAILED, "again": TaskStatus.QUEUED}
        count = len(outcomes)
        again = [index for index, outcome in enumerate(outcomes, start=7) if outcome == "again"]
        return RangeCompletion(
            range_id=1,
            token=1,
            stage_id=1,
            first=7,
            statuses=[status[outcome] for outcome in outcomes],
            results=cast("list[str | None]", [None] * count),
            errors=cast("list[str | None]", [None] * count),
            seconds=[0.0] * count,
            completed_at=[0.0] * count,
            retries=[Retry(task_index=index, delay_seconds=0, error_details="x") for index in again],
            partials=partials,
        )

    @pytest.mark.parametrize(
        "partials",
        [
            [partial(6, 8, "x")],
            [partial(8, 11, "x")],
            [partial(7, 8, "x"), partial(7, 8, "x")],
            [partial(8, 9, "x"), partial(7, 8, "x")],
            [partial(7, 9, "x", 1)],
            [partial(8, 10, "x", 1)],
        ],
        ids=["before", "beyond", "twice", "out of order", "miscounted", "over a retry"],
    )
    def test_a_report_takes_partials_of_its_own_results_only(self, partials: list[Partial]) -> None:
        """What would be combined twice, out of order, or before it is there, is refused before it is stored."""
        with pytest.raises(ValidationError, match="does not fit the report of"):
            self._report(["completed", "completed", "again"], partials)

    def test_a_partial_has_no_more_results_than_tasks(self) -> None:
        """A partial that says so was not counted."""
        with pytest.raises(ValidationError, match="cannot have 2 results"):
            partial(3, 4, "x", 2)
