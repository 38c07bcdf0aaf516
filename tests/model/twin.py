"""A real store that takes the model's steps through its port, and is compared with the model after each of them."""

from collections.abc import Callable
from contextlib import suppress
from itertools import zip_longest
from typing import Any, Final, NamedTuple, Protocol

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobEnding
from stageflow.contracts.lease import (
    ClaimOutcome,
    CompletionOutcome,
    HeldLease,
    Lease,
    RangeCompletion,
    SeenLease,
    TaskCompletionResult,
    WorkKind,
)
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.repair import StageRepair
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.stage import NewStage
from stageflow.contracts.status import JobStatus, StageStatus, TaskStatus
from stageflow.errors import InvalidTransitionError
from stageflow.testing.conformance.builders import (
    LEASE_SECONDS,
    Again,
    MovableStore,
    advance,
    cancel,
    chunk,
    complete_one,
    create,
    finish,
    give_back,
    name_claim,
    new_job,
    new_stage,
    pause,
    report,
    resume,
    stored_result,
)
from tests.model.explore import describe
from tests.model.state import (
    ADVANCE,
    CLOSED,
    ENDED,
    FAILED,
    PAUSED,
    PLAN,
    TASK,
    Bounds,
    Control,
    Job,
    Label,
    Range,
    Stage,
    State,
    initial,
    normal,
    status_for,
)
from tests.model.steps import Step, successors
from tests.model.store import DEATH_BUDGET, chosen, verdict

_MANY_LIVES: Final = 1_000_000
_LIMIT: Final = 1000
_JOBS: Final = {
    "queued": "q", "processing": "p", "paused": "z", "completed": "C", "completed_with_errors": "E", "failed": "F",
    "cancelled": "X",
}  # fmt: skip
_STAGES: Final = {
    "pending": "n", "planning": "l", "processing": "p", "completed": "C", "completed_with_errors": "E", "failed": "F",
    "skipped": "S", "cancelled": "X",
}  # fmt: skip
_TASKS: Final = {"completed": "C", "failed": "F", "skipped": "S", "cancelled": "X"}
_RANGES: Final = {"ready": "r", "leased": "l", "held": "h", "waiting": "w"}
_KINDS: Final = {PLAN: WorkKind.PLAN, TASK: WorkKind.TASK, ADVANCE: WorkKind.ADVANCE}
_TOLD: Final[dict[str, TaskStatus | Again]] = {"C": TaskStatus.COMPLETED, "F": TaskStatus.FAILED, "R": Again()}
_DONE: Final = {"C": StageStatus.COMPLETED, "E": StageStatus.COMPLETED_WITH_ERRORS, "F": StageStatus.FAILED}


class Rows(NamedTuple):
    """What a store has of a job, as plain rows.

    Attributes:
        job: Status, run, stage.
        stages: Id, run, number, generation, status, planned, halted, remaining, task count, and whose results it has.
        results: Stage, index, generation, status.
        ranges: Stage, kind, first, last, state, token, attempt, suspect, deaths, id, beat.
    """

    job: tuple[Any, ...]
    stages: list[tuple[Any, ...]]
    results: list[tuple[Any, ...]]
    ranges: list[tuple[Any, ...]]


class Sessions(Protocol):
    """The transactions of workers that report: begun in one step, committed or lost in another."""

    misses: bool
    """Whether what a transaction holds can be passed over."""

    def read(self, job_id: str) -> Rows:
        """Return the job's rows, past the port."""
        ...

    def begin(self, worker: int, lease: Lease) -> None:
        """Begin the transaction of a report."""
        ...

    def commit(self, worker: int, completion: RangeCompletion, name: str) -> TaskCompletionResult:
        """Report within that transaction, and commit it."""
        ...

    def roll_back(self, worker: int) -> None:
        """Lose the transaction, as a crash does."""
        ...

    def amid_a_claim(self, act: Callable[[], None]) -> None:
        """Do something while a claim that will be rolled back holds every range."""
        ...


class Twin:
    """One job in a real store, beside the model's state of it."""

    def __init__(self, store: MovableStore, sessions: Sessions, bounds: Bounds, name: str) -> None:
        self.store = store
        self.sessions = sessions
        self.bounds = bounds
        self.job = new_job(name, job_type=f"model-{name}", stages=len(bounds.tasks), first_stage=self._stage(1))
        self.state = normal(initial(bounds))
        self.leases: list[Lease | None] = [None] * bounds.workers
        self.late: RangeCompletion | None = None
        self.told: list[Label] = []
        create(store, self.job)
        self.rows = sessions.read(self.job.job_id)

    def steps(self) -> list[Step]:
        """Return the steps that this store can take now."""
        return [step for step in successors(self.state, self.bounds) if self.can_take(step[0])]

    def can_take(self, label: Label) -> bool:
        """Say whether the step exists in this store: which tasks are neighbours is given there, and not every lock is."""
        return label[0] != "repair, apart" and (self.sessions.misses or "missing" not in str(label[0]))

    def take(self, label: Label, after: State) -> None:
        """Take one step in the store, and compare what came of it with the model.

        Raises:
            AssertionError: The store answered otherwise, or has other rows.
        """
        self.told.append(label)
        before = self.state
        try:
            getattr(self, "_" + str(label[0]).replace(", ", "_").replace(" ", "_"))(label, before, after)
            self.leases = [lease if held is not None else None for lease, held in zip(self.leases, after.workers, strict=True)]
            self.rows = self.sessions.read(self.job.job_id)
            seen = self.look(after)
            assert seen == after, f"the store has other rows than the model: {_difference(seen, after)}"
        except Exception as error:
            error.add_note("; ".join(describe(each) for each in self.told))
            raise
        self.state = after

    def look(self, beside: State) -> State:
        """Return the state of the store, with the holders of a state of the model."""
        job = Job(_JOBS[self.rows.job[0]], *self.rows.job[1:])
        stages = tuple(self._read_stage(row) for row in self.rows.stages)
        workers = tuple(
            None if held is None or lease is None else held._replace(token=lease.token)
            for held, lease in zip(beside.workers, self.leases, strict=True)
        )
        late = beside.late
        if late is not None and self.late is not None:
            late = late._replace(token=self.late.token)
        return normal(State(job, stages, workers, late, beside.left))

    def close(self) -> None:
        """Leave nothing that a later schedule's recovery would meet."""
        for worker in range(self.bounds.workers):
            self.sessions.roll_back(worker)
        with suppress(InvalidTransitionError):
            cancel(self.store, self.job)
        seen = [SeenLease(range_id=row[9], token=row[5], beat=row[10]) for row in self.rows.ranges if row[4] == "leased"]
        self.store.recover(expired=seen, death_budget=_MANY_LIVES, limit=_LIMIT)

    def _read_stage(self, row: tuple[Any, ...]) -> Stage:
        stage_id, run, number, generation, status, planned, halted, remaining, count, source = row
        letters = ["."] * count
        newest = [0] * count
        for owner, index, written, result in self.rows.results:
            if owner == source and written > newest[index]:
                letters[index], newest[index] = _TASKS[result], written
        ranges: list[Range] = []
        control = None
        for owner, kind, first, last, state, token, attempt, suspect, deaths, *_ in self.rows.ranges:
            if owner == source and state in _TASKS:
                letters[first:last] = _TASKS[state] * (last - first)
            elif owner == stage_id and kind == "task":
                ranges.append(Range(first, last, _RANGES[state], token or 0, attempt, bool(suspect), deaths))
            elif owner == stage_id:
                control = Control(PLAN if kind == "plan" else ADVANCE, _RANGES[state], token or 0)
        done = "".join(letters)
        return Stage(
            run,
            number,
            generation,
            _STAGES[status],
            bool(planned),
            bool(halted),
            remaining,
            done,
            tuple(sorted(ranges)),
            control,
        )

    def _stage(self, number: int) -> NewStage:
        return new_stage(number, fail_fast=self.bounds.fail_fast)

    def _seen(self, run: int, number: int, kind: str, first: int) -> SeenLease:
        stage_id = next(row[0] for row in self.rows.stages if (row[1], row[2]) == (run, number))
        for row in self.rows.ranges:
            if row[0] == stage_id and row[4] == "leased" and (row[1] == "task") == (kind == TASK) and row[2] == first:
                return SeenLease(range_id=row[9], token=row[5], beat=row[10])
        msg = "the model has a lease that the store has not"
        raise AssertionError(msg)

    def _lease(self, worker: int) -> Lease:
        lease = self.leases[worker]
        assert lease is not None
        return lease

    # What workers do.

    def _claim(self, label: Label, before: State, after: State) -> None:
        worker = int(label[1])
        held = after.workers[worker]
        assert held is not None
        kind = _KINDS[held.kind]
        generation = next(stage.generation for stage in before.stages if (stage.run, stage.number) == (held.run, held.number))
        last = held.last if kind is WorkKind.TASK else 1
        answer = self.store.claim_named(
            name_claim(
                self.job,
                kind,
                worker=f"worker {worker}",
                stage_number=held.number,
                run=held.run,
                generation=generation,
                first=held.first,
                last=last,
            )
        )
        assert answer.outcome is ClaimOutcome.WORK
        (lease,) = answer.leases
        assert (lease.kind, lease.first, lease.last) == (kind, held.first, held.last)
        self.leases[worker] = lease

    _claim_control = _claim

    def _meet(self, label: Label, before: State, after: State) -> None:
        run, number, *first = (int(each) for each in label[2:])
        stage = next(stage for stage in before.stages if (stage.run, stage.number) == (run, number))
        if first:
            met = next(each for each in stage.ranges if each.first == first[0])
            kinds, span = (WorkKind.TASK,), (met.first, met.last)
        else:
            kinds, span = (WorkKind.PLAN if stage.control and stage.control.kind == PLAN else WorkKind.ADVANCE,), (0, 1)
        claim = name_claim(
            self.job, *kinds, stage_number=number, run=run, generation=stage.generation, first=span[0], last=span[1]
        )
        answer = self.store.claim_named(claim)
        assert answer.leases == []
        assert after.job == before.job

    _meet_control = _meet

    def _heartbeat(self, label: Label, before: State, after: State) -> None:
        worker = int(label[1])
        held, lease = before.workers[worker], self._lease(worker)
        assert held is not None
        beat = HeldLease(range_id=lease.range_id, token=lease.token, current_index=held.first)
        answer = self.store.extend_leases(f"worker {worker}", [beat], LEASE_SECONDS)
        assert answer.held == ([lease.token] if held.token else []), "the heartbeat knows who holds the lease"
        if held.token:
            stage = next(stage for stage in before.stages if (stage.run, stage.number) == (held.run, held.number))
            stops = status_for(before.job, stage.run) in ENDED or (stage.halted and held.kind == TASK)
            assert bool(answer.stopping) == stops, "a holder is told to stop when there is no use in going on"
        assert before is after

    def _begin(self, label: Label, before: State, after: State) -> None:
        self.sessions.begin(int(label[1]), self._lease(int(label[1])))
        assert before.stages == after.stages

    def _commit(self, label: Label, before: State, after: State) -> None:
        worker = int(label[1])
        held = before.workers[worker]
        assert held is not None
        assert held.write is not None
        told = report(self._lease(worker), *[_TOLD[each] for each in held.write.told], first=held.first)
        answer = self.sessions.commit(worker, told, f"worker {worker}")
        assert answer.outcome is CompletionOutcome.RECORDED
        assert answer.is_last_task_in_stage == (_barriers(after) > _barriers(before)), "the last one is told, and no other"
        now = after.workers[worker]
        assert (answer.advance is not None) == (now is not None and now.kind == ADVANCE)
        if answer.advance is not None:
            self.leases[worker] = answer.advance

    def _plan(self, label: Label, before: State, after: State) -> None:
        worker = int(label[1])
        held, lease = before.workers[worker], self._lease(worker)
        assert held is not None
        stage = self.store.get_stage(lease.stage_id)
        assert stage is not None
        total, first = self.bounds.tasks[held.number - 1], stage.task_count
        count = min(self.bounds.chunk, total - first)
        part = chunk(lease, count, first_index=first, digest_before=stage.plan_digest, final=first + count == total)
        outcome = self.store.add_tasks(part)
        status = status_for(before.job, held.run)
        expected = (
            PlanOutcome.PAUSED if status == PAUSED else PlanOutcome.JOB_ENDED if status in ENDED else PlanOutcome.RECORDED
        )
        assert outcome is expected
        assert after.job == before.job

    def _advance(self, label: Label, before: State, after: State) -> None:
        worker = int(label[1])
        held, lease = before.workers[worker], self._lease(worker)
        assert held is not None
        stage = next(stage for stage in before.stages if (stage.run, stage.number) == (held.run, held.number))
        closing, status = verdict(self.bounds, stage), status_for(before.job, held.run)
        if closing == FAILED and status not in ENDED:
            self._fail(lease)
        elif held.number == len(self.bounds.tasks):
            answer = finish(self.store, lease, status=_DONE[closing])
            assert answer.job_updated == (after.job.status in ENDED and status not in ENDED)
        else:
            told = advance(self.store, lease, self._stage(held.number + 1), status=_DONE[closing], worker=f"worker {worker}")
            expected = (
                AdvanceOutcome.PAUSED if status == PAUSED
                else AdvanceOutcome.JOB_ENDED if status in ENDED else AdvanceOutcome.ADVANCED
            )  # fmt: skip
            assert told.outcome is expected
            self.leases[worker] = told.plan

    def _fail(self, lease: Lease) -> None:
        status, text = stored_result(self.store, lease, StageStatus.FAILED)
        ending = JobEnding(
            job_id=lease.job_id, status=JobStatus.FAILED, error_details="a task failed", range_id=lease.range_id,
            token=lease.token, stage_id=lease.stage_id, stage_status=StageStatus(status), stage_result=text,
        )  # fmt: skip
        assert self.store.end_job(ending)

    def _learn(self, label: Label, before: State, after: State) -> None:
        """Try everything with a lease that was lost."""
        worker = int(label[1])
        held, lease = before.workers[worker], self._lease(worker)
        assert held is not None
        assert self.store.return_ranges([give_back(lease)]) == [False]
        match held.kind:
            case "T" if self._would_wait(lease.range_id, before):
                pass
            case "T":
                told = complete_one(self.store, report(lease, TaskStatus.COMPLETED, first=held.first))
                assert told.outcome is not CompletionOutcome.RECORDED
            case "P":
                assert self.store.add_tasks(chunk(lease, 1)) is PlanOutcome.STALE
            case _:
                answer = advance(self.store, lease, self._stage(held.number + 1), status=StageStatus.COMPLETED)
                assert answer.outcome in {AdvanceOutcome.STALE, AdvanceOutcome.ALREADY_ADVANCED}
                assert not finish(self.store, lease, status=StageStatus.COMPLETED).job_updated
        assert (before.job, before.stages) == (after.job, after.stages)

    def _would_wait(self, range_id: int, before: State) -> bool:
        """Say whether a report about a range, stale or not, would wait for a worker's open transaction."""
        writing = [held is not None and held.write is not None for held in before.workers]
        return any(
            busy and lease is not None and lease.range_id == range_id for busy, lease in zip(writing, self.leases, strict=True)
        )

    def _return(self, label: Label, before: State, after: State) -> None:
        held = before.workers[int(label[1])]
        assert held is not None
        assert self.store.return_ranges([give_back(self._lease(int(label[1])), held.first)]) == [True]
        assert after.job == before.job

    def _crash(self, label: Label, before: State, after: State) -> None:
        self.sessions.roll_back(int(label[1]))
        assert before.stages != () != after.stages

    # What the network does.

    def _post(self, label: Label, before: State, after: State) -> None:
        assert after.late is not None
        assert before.late is None
        self.late = report(self._lease(int(label[1])), *[_TOLD[each] for each in after.late.told], first=after.late.first)

    def _lose(self, label: Label, before: State, after: State) -> None:
        assert label
        assert before.job == after.job
        self.late = None

    def _deliver(self, label: Label, before: State, after: State) -> None:
        assert label
        late = before.late
        assert late is not None
        assert self.late is not None
        if self._would_wait(self.late.range_id, before):
            return
        answer = complete_one(self.store, self.late)
        if before.stages != after.stages:
            assert answer.outcome is CompletionOutcome.RECORDED
        else:
            assert answer.outcome is (CompletionOutcome.ALREADY_RECORDED if late.recorded else CompletionOutcome.STALE)

    # What time and death do.

    def _recover(self, label: Label, before: State, after: State) -> None:
        run, number, first = (int(each) for each in label[2:])
        seen = [self._seen(run, number, TASK, first)]
        self.store.recover(expired=seen, death_budget=DEATH_BUDGET, limit=_LIMIT)
        assert before.job == after.job

    def _recover_control(self, label: Label, before: State, after: State) -> None:
        run, number = (int(each) for each in label[2:])
        self.store.recover(expired=[self._seen(run, number, PLAN, 0)], death_budget=_MANY_LIVES, limit=_LIMIT)
        assert before.job == after.job

    def _sweep(self, label: Label, before: State, after: State) -> None:
        assert label
        self.store.recover(expired=[], death_budget=DEATH_BUDGET, limit=_LIMIT)
        assert before.job == after.job

    # What operators do.

    def _pause(self, label: Label, before: State, after: State) -> None:
        assert label
        assert before.stages == after.stages
        pause(self.store, self.job)

    def _resume(self, label: Label, before: State, after: State) -> None:
        assert label
        assert before.job != after.job
        resume(self.store, self.job)

    def _cancel(self, label: Label, before: State, after: State) -> None:
        assert label
        assert before.job != after.job
        cancel(self.store, self.job)

    def _resume_missing(self, label: Label, before: State, after: State) -> None:
        self.sessions.amid_a_claim(lambda: self._resume(label, before, after))

    def _cancel_missing(self, label: Label, before: State, after: State) -> None:
        self.sessions.amid_a_claim(lambda: self._cancel(label, before, after))

    def _skip(self, label: Label, before: State, after: State) -> None:
        number, index = int(label[2]), int(label[3])
        assert before.job == after.job
        assert self.store.close_task(self.job.job_id, number, index, TaskStatus.SKIPPED, "by hand")

    def _repair(self, label: Label, before: State, after: State) -> None:
        number = int(label[2])
        former = next(stage for stage in before.stages if (stage.run, stage.number) == (before.job.run, number))
        asked = StageRepair(job_id=self.job.job_id, former_run=before.job.run, stage=self._stage(number), tasks=chosen(former))
        record = self.store.repair_stage(asked)
        assert record is not None
        assert record.run == after.job.run

    def _resubmit(self, label: Label, before: State, after: State) -> None:
        assert label
        asked = NewRun(job_id=self.job.job_id, former_run=before.job.run, stages=(self._stage(1),))
        record = self.store.resubmit_job(asked)
        assert record is not None
        assert record.run == after.job.run


def _barriers(state: State) -> int:
    """Return how many stages have reached their barrier."""
    return sum(
        stage.status in CLOSED or (stage.control is not None and stage.control.kind == ADVANCE) for stage in state.stages
    )


def _difference(seen: State, expected: State) -> str:
    """Return the rows that differ."""
    if seen.job != expected.job:
        return f"{seen.job}, not {expected.job}"
    for one, other in zip_longest(seen.stages, expected.stages):
        if one != other:
            return f"{one}, not {other}"
    return f"{seen.workers} and {seen.late}, not {expected.workers} and {expected.late}"
