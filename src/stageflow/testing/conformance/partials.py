"""Partials: what workers combined of a stage's results, written with them, and equal to a fold of the results at the end."""

from itertools import count
from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stageflow.contracts.base import Contract
from stageflow.contracts.lease import CompletionOutcome, Lease, RangeCompletion
from stageflow.contracts.partial import Partial
from stageflow.contracts.results import Combination, ResultRow, StageResults
from stageflow.contracts.stage import StageRecord
from stageflow.contracts.status import TaskStatus
from stageflow.engine.fold import ResultFold
from stageflow.testing.conformance.builders import (
    BAD,
    OK,
    Again,
    MovableStore,
    ask,
    claim_all,
    claim_one,
    complete,
    complete_one,
    give_back,
    let_leases_expire,
    new_job,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.looking import get_stage
from stageflow.testing.conformance.scenario import StoreScenarios

_JOB: Final = new_job()
_TASKS: Final = tasks_type(_JOB)
_WIDTH: Final = 12
_ROUNDS: Final = 60
_OUTCOMES: Final = [OK, OK, OK, OK, BAD, TaskStatus.SKIPPED, Again(), Again(20.0)]
_ACTS: Final = [*["work"] * 4, *["start", "go on"] * 2, "give back", "recover", "requeue", "fail"]
_schedules = count()


class Words(Contract):
    """A result whose combination is its words after those of the left one: associative, and never commutes."""

    text: str


def join(left: Words, right: Words) -> Words:
    """Put two neighbours together."""
    return Words(text=left.text + right.text)


def refuse(left: Words, right: Words) -> Words:
    """Combine nothing, as a broken combine does in a worker."""
    msg = f"{left.text} and {right.text} cannot be combined"
    raise ValueError(msg)


def combined_report(
    lease: Lease,
    *outcomes: TaskStatus | Again,
    first: int | None = None,
    broken: bool = False,
) -> RangeCompletion:
    """Return what became of a prefix of a lease, with its results combined; each result names its task and its lease."""
    plain = report(lease, *outcomes, first=first)
    fold = ResultFold(refuse if broken else join, plain.first)
    results: list[str | None] = []
    for index, status in enumerate(plain.statuses, plain.first):
        words = Words(text=f"{index} by {lease.token}; ")
        results.append(words.to_json() if status is OK else None)
        if status is OK:
            fold.add(words)
        elif status is TaskStatus.QUEUED:
            fold.interrupt()
        else:
            fold.pass_over()
    return RangeCompletion.from_fields({**dict(plain), "results": results, "partials": fold.partials()})


def results_of(store: MovableStore, stage: StageRecord) -> StageResults[Words]:
    """Return a stage's results as hooks get them."""

    def load(first: int, limit: int, failed_only: bool) -> list[ResultRow]:  # noqa: FBT001  the shape of a page loader
        return store.list_result_rows(stage.stage_id, first_index=first, limit=limit, failed_only=failed_only)

    def load_partials(first: int, limit: int) -> list[Partial]:
        return store.list_partials(stage.stage_id, first_index=first, limit=limit)

    return StageResults(
        stage_number=stage.stage_number,
        model=Words,
        task_count=stage.task_count,
        successful_tasks=stage.successful_tasks,
        load=load,
        combination=Combination(join, load_partials),
    )


def _spans(store: MovableStore, stage_id: int | None = None, *, first: int = 0, limit: int = 100) -> list[tuple[int, int, int]]:
    stage = get_stage(store, _JOB).stage_id if stage_id is None else stage_id
    return [
        (each.first, each.last, each.successful_tasks) for each in store.list_partials(stage, first_index=first, limit=limit)
    ]


class _Schedule:
    """A stage whose results are combined while its tasks end, fail, are tried again, and lose their workers."""

    def __init__(self, store: MovableStore) -> None:
        self.store = store
        number = next(_schedules)
        self.job = new_job(f"schedule {number}", job_type=f"folded_{number}")
        self.tasks = tasks_type(self.job)
        self.held: list[tuple[Lease, int, int]] = []
        start(store, self.job, _WIDTH, range_count=2)

    def act(self, act: str, number: int, outcomes: list[TaskStatus | Again], *, broken: bool) -> None:
        """Let one thing happen."""
        match act:
            case "work":
                self._claim(1 + number)
                self._go_on(len(self.held) - 1, outcomes, broken=broken)
            case "start":
                self._claim(1 + number)
            case "go on":
                self._go_on(number, outcomes, broken=broken)
            case "give back" if number < len(self.held):
                lease, at, last = self.held[number]
                if self.store.return_ranges([give_back(lease, max(at, last - 1))]) == [True]:
                    self.held[number] = (lease, at, max(at, last - 1))
            case "recover":
                let_leases_expire(self.store)
            case "requeue":
                self.store.close_task(self.job.job_id, 1, number, TaskStatus.QUEUED, None)
            case "fail":
                self.store.close_task(self.job.job_id, 1, number, BAD, "by hand")
            case _:
                pass

    def end(self) -> StageRecord:
        """Carry out what is left, and return the stage when all its tasks have ended."""
        for _ in range(_ROUNDS):
            stage = get_stage(self.store, self.job)
            if stage.remaining == 0:
                return stage
            let_leases_expire(self.store)
            for lease in claim_all(self.store, self.tasks, max_tasks=3):
                complete_one(self.store, combined_report(lease, *[OK] * (lease.last - lease.first)))
        msg = f"{get_stage(self.store, self.job).remaining} tasks do not end"
        raise AssertionError(msg)

    def _claim(self, max_tasks: int) -> None:
        leases = ask(self.store, self.tasks, max_tasks=max_tasks, max_leases=1).leases
        self.held += [(lease, lease.first, lease.last) for lease in leases]

    def _go_on(self, place: int, outcomes: list[TaskStatus | Again], *, broken: bool) -> None:
        """Report for a lease from where its last report ended, also when another worker took it over."""
        if not 0 <= place < len(self.held):
            return
        lease, at, last = self.held[place]
        if at < last:
            told = outcomes[: last - at]
            complete_one(self.store, combined_report(lease, *told, first=at, broken=broken))
            self.held[place] = (lease, at + len(told), last)


class PartialConformance(StoreScenarios):
    """Combinations of results, stored as they come."""

    def test_a_report_stores_one_partial_for_each_run_without_retries(self, store: MovableStore) -> None:
        """A failed task is left out of a run, a retried one ends it; they are read in index order, from an index on."""
        start(store, _JOB, 10)
        head, tail = claim_one(store, _TASKS, max_tasks=7), claim_one(store, _TASKS)
        complete_one(store, combined_report(tail, OK, BAD, OK))
        complete_one(store, combined_report(head, OK, OK, Again(), BAD, OK, Again(), BAD))
        assert _spans(store) == [(0, 2, 2), (3, 5, 1), (7, 10, 2)]
        assert _spans(store, first=1) == [(3, 5, 1), (7, 10, 2)]
        assert _spans(store, limit=2) == [(0, 2, 2), (3, 5, 1)]
        stage = get_stage(store, _JOB)
        values = [each.value for each in store.list_partials(stage.stage_id, first_index=7, limit=1)]
        assert values == [Words(text=f"7 by {tail.token}; 9 by {tail.token}; ").to_json()]

    def test_a_retried_task_fills_its_hole_later(self, store: MovableStore) -> None:
        """The result of a later attempt is combined between its neighbours."""
        start(store, _JOB, 5)
        first = claim_one(store, _TASKS)
        complete_one(store, combined_report(first, OK, OK, Again(), OK, OK))
        again = claim_one(store, _TASKS)
        complete_one(store, combined_report(again, OK))
        assert _spans(store) == [(0, 2, 2), (2, 3, 1), (3, 5, 2)]
        tokens = [first.token, first.token, again.token, first.token, first.token]
        expected = "".join(f"{index} by {token}; " for index, token in enumerate(tokens))
        assert results_of(store, get_stage(store, _JOB)).combined() == Words(text=expected)

    def test_a_report_that_is_not_written_leaves_no_partial(self, store: MovableStore) -> None:
        """Neither a stale report nor a repeated one adds to what is combined."""
        start(store, _JOB, 4)
        lost = claim_one(store, _TASKS)
        let_leases_expire(store)
        assert complete_one(store, combined_report(lost, OK, OK, OK, OK)).outcome is CompletionOutcome.STALE
        assert _spans(store) == []
        leases = claim_all(store, _TASKS, max_tasks=2)
        while leases:
            good = combined_report(leases[0], *[OK] * (leases[0].last - leases[0].first))
            assert complete_one(store, good).outcome is CompletionOutcome.RECORDED
            before = _spans(store)
            assert complete_one(store, good).outcome is CompletionOutcome.ALREADY_RECORDED
            assert _spans(store) == before
            leases = leases[1:] or claim_all(store, _TASKS, max_tasks=2)
        assert sum(successful for _, _, successful in _spans(store)) == 4

    def test_a_partial_beyond_what_is_recorded_is_not_stored(self, store: MovableStore) -> None:
        """Of a report that an operator cut short, a combination that holds a result which was refused is dropped."""
        start(store, _JOB, 6)
        lease = claim_one(store, _TASKS)
        whole = combined_report(lease, OK, Again(), OK, OK, OK, OK)
        assert store.close_task(_JOB.job_id, 1, 4, BAD, "by hand")
        assert complete_one(store, whole).outcome is CompletionOutcome.RECORDED
        assert _spans(store) == [(0, 1, 1)]
        for left in claim_all(store, _TASKS):
            complete_one(store, combined_report(left, *[OK] * (left.last - left.first)))
        results = results_of(store, get_stage(store, _JOB))
        combined = results.combined()
        assert combined is not None
        assert [part.split(" by ")[0] for part in combined.text.split("; ")[:-1]] == ["0", "1", "2", "3", "5"]
        assert combined.text == "".join(words.text for words in results)

    def test_a_batch_of_reports_keeps_partials_apart(self, store: MovableStore) -> None:
        """Each partial belongs to the stage of its own report, whatever else the batch holds."""
        other = new_job("other")
        start(store, _JOB, 6)
        start(store, other, 2)
        leases = claim_all(store, _TASKS, max_tasks=2)
        mine, plain, theirs, last = sorted(leases, key=lambda lease: (lease.first != 0, lease.first, lease.token))[:4]
        mine, theirs = (mine, plain) if mine.job_id == _JOB.job_id else (plain, mine)
        plain, last = sorted((lease for lease in leases if lease not in (mine, theirs)), key=lambda lease: lease.first)
        complete(
            store,
            combined_report(last, OK, OK),
            report(plain, OK, OK),
            combined_report(theirs, OK, OK),
            combined_report(mine, OK, BAD),
        )
        assert _spans(store) == [(0, 2, 1), (4, 6, 2)]
        assert _spans(store, get_stage(store, other).stage_id) == [(0, 2, 2)]

    def test_a_stage_without_partials_has_none(self, store: MovableStore) -> None:
        """Reading answers with an empty page, as for a stage that is not there."""
        start(store, _JOB, 1)
        complete_one(store, report(claim_one(store, _TASKS), OK))
        assert _spans(store) == _spans(store, 987_654) == []

    def test_combining_is_a_fold_of_the_results_whatever_happened(self, store: MovableStore) -> None:
        """After failures, retries, crashes, recoveries, stale reports and broken combinations: each result once, in order."""
        steps = st.lists(
            st.tuples(
                st.sampled_from(_ACTS),
                st.integers(0, 5),
                st.lists(st.sampled_from(_OUTCOMES), min_size=1, max_size=6),
                st.sampled_from([False, False, False, True]),
            ),
            max_size=14,
        )

        @settings(max_examples=40, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(steps)
        def follow(steps: list[tuple[str, int, list[TaskStatus | Again], bool]]) -> None:
            schedule = _Schedule(store)
            for act, number, outcomes, broken in steps:
                schedule.act(act, number, outcomes, broken=broken)
            results = results_of(store, schedule.end())
            texts = [words.text for words in results]
            assert results.combined() == (Words(text="".join(texts)) if texts else None)

        follow()
