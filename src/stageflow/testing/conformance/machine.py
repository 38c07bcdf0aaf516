"""Generated schedules: two workers, a job of two stages, and everything that may happen to them, in any order.

Hypothesis draws the schedule and shrinks it when something breaks. After every step the partition holds and nothing that
was final has changed; at the end of every schedule the job can still end. A lease that a worker ever got is kept, also when
another took it over, so that stale holders try everything at every moment.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.event import BEFORE_ALL, MOST_EVENTS, EventKind, JobEvent
from stageflow.contracts.job import JobEnding, JobUpdate, NewJob
from stageflow.contracts.lease import CompletionOutcome, HeldLease, Lease, SeenLease, WorkKind
from stageflow.contracts.plan import PlanOutcome
from stageflow.contracts.repair import StageRepair, list_repairable
from stageflow.contracts.resubmission import NewRun
from stageflow.contracts.stage import NewStage, StageRecord
from stageflow.contracts.status import (
    TERMINAL_JOB_STATUSES,
    TERMINAL_TASK_STATUSES,
    JobStatus,
    StageStatus,
    StatusValidator,
    TaskStatus,
)
from stageflow.errors import StageflowError
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    Again,
    MovableStore,
    advance,
    all_types,
    ask,
    chunk,
    complete_one,
    create,
    finish,
    give_back,
    let_leases_expire,
    new_job,
    new_stage,
    plan_all,
    report,
)
from stageflow.testing.conformance.looking import check_partition, drain, fail_with, get_shallow_job, get_tasks
from stageflow.testing.conformance.scenario import StoreScenarios

_WORKERS: Final = ("ada", "bob")
_STAGES: Final = 2
_DEATH_BUDGET: Final = 2
_schedules = count()

_ACTS: Final = [
    *["claim tasks", "complete", "work", "work through"] * 3,
    *["claim control", "plan", "advance", "give back", "recover"] * 2,
    *["resume"] * 4,
    *["resubmit", "repair"] * 2,
    *["recover seen", "pause", "end", "requeue", "fail", "skip"],
]
"""What may happen next, weighted; one rule for all of it, because Hypothesis leaves whole rules out of an example at will."""
_OUTCOMES: Final = [OK, OK, OK, BAD, BAD, TaskStatus.SKIPPED, Again(), Again(20.0)]
_DONE: Final = frozenset({StageStatus.COMPLETED, StageStatus.COMPLETED_WITH_ERRORS})
_PLANNED: Final = [8, 6, 3, 0]


class StoreMachine(RuleBasedStateMachine):
    """One job under a generated schedule; :func:`run_schedules` gives the store."""

    def __init__(self, store: MovableStore) -> None:
        super().__init__()
        self.store = store
        self.job: NewJob = new_job()
        self.run = 1
        self.ends: dict[tuple[int, int], TaskStatus] = {}
        self.ending: JobStatus | None = None
        self.lasts: dict[int, int] = {}
        self.advanced: set[int] = set()
        self.attempts: defaultdict[tuple[int, int], int] = defaultdict(lambda: 1)
        self.highest_token = 0
        self.spans: dict[int, tuple[int, int]] = {}
        self.known: dict[int, Lease] = {}
        self.following: list[NewStage] = []
        self.seen: list[SeenLease] = []
        self.types: list[str] = []
        self.told: list[str] = []
        self.begun = False

    @initialize(
        fail_fast=st.booleans(),
        rate=st.sampled_from([None, 60.0]),
        stage_group=st.booleans(),
        planned=st.sampled_from(_PLANNED),
        ranges=st.integers(1, 3),
    )
    def begin(self, *, fail_fast: bool, rate: float | None, stage_group: bool, planned: int, ranges: int) -> None:
        """Create the job, under a type of its own, with its first stage planned already or not."""
        number = next(_schedules)
        first = new_stage(1, fail_fast=fail_fast, minimum_success_rate=None if fail_fast else rate)
        stages = _STAGES + stage_group
        self.job = new_job(f"schedule {number}", job_type=f"schedule{number}", stages=stages, first_stage=first)
        self.following = (
            [new_stage(2, group=(2, 3), fail_fast=fail_fast), new_stage(3, group=(2, 3))] if stage_group else [new_stage(2)]
        )
        self.types = all_types(self.job)
        create(self.store, self.job)
        if planned:
            plan_all(self.store, self.job, planned, range_count=ranges)
        self.begun = True

    @rule(
        act=st.sampled_from(_ACTS),
        worker=st.sampled_from(_WORKERS),
        pick=st.integers(0, 5),
        number=st.integers(0, 5),
        outcomes=st.lists(st.sampled_from(_OUTCOMES), min_size=1, max_size=4),
    )
    def step(self, *, act: str, worker: str, pick: int, number: int, outcomes: list[TaskStatus | Again]) -> None:
        """Let one thing happen; each act takes what it needs of the rest."""
        self.told.append(act)
        match act:
            case "claim tasks":
                self._claim(self.types[1], worker=worker, max_tasks=len(outcomes))
            case "claim control":
                self._claim(self.types[0], worker=worker)
            case "work":
                self._carry_out(self._claim(self.types[1], worker=worker, max_tasks=5), outcomes, number)
            case "work through":
                self._carry_out(self._held(), outcomes, number)
                self._carry_out(self._claim(*self.types, worker=worker, max_tasks=3, max_leases=2), outcomes, number)
            case "complete" | "plan" | "advance" | "give back":
                self._use_lease(act, pick, number, outcomes)
            case "recover" | "recover seen":
                self._recover(act, [1.0, 25.0, LEASE_SECONDS + 1][min(number, 2)])
            case _:
                self._operate(act, pick, 1 + number % 3)

    # What workers do.

    def _claim(self, *work_types: str, worker: str, max_tasks: int = 1, max_leases: int = 1) -> list[Lease]:
        answer = ask(self.store, *work_types, worker=worker, max_tasks=max_tasks, max_leases=max_leases)
        self._note(answer.leases)
        for lease in answer.leases:
            assert self._status() is JobStatus.PROCESSING, "only what belongs to a running job is claimed"
            assert lease.run == self.run, "no work of a former run is claimed"
            if lease.kind is WorkKind.TASK:
                assert not self._stage(lease).halted, "no task of a halted stage is claimed"
                assert lease.last - lease.first <= (1 if lease.suspect else max_tasks)
                attempts = {self.attempts[lease.stage_id, index] for index in range(lease.first, lease.last)}
                assert attempts == {lease.attempt}, "an attempt is counted once"
        return answer.leases

    def _carry_out(self, leases: list[Lease], outcomes: list[TaskStatus | Again], width: int) -> None:
        for lease in leases:
            match lease.kind:
                case WorkKind.TASK:
                    self._complete(lease, outcomes)
                case WorkKind.PLAN:
                    self._plan(lease, width, final=True)
                case WorkKind.ADVANCE:
                    self._advance(lease)

    def _use_lease(self, act: str, pick: int, number: int, outcomes: list[TaskStatus | Again]) -> None:
        """Use a lease for what it is meant for: one that is held, or, the higher the pick, one that was lost."""
        kinds = {"complete": WorkKind.TASK, "plan": WorkKind.PLAN, "advance": WorkKind.ADVANCE}
        held = self._held()
        lost = [lease for lease in reversed(self.known.values()) if lease not in held]
        leases = [lease for lease in (*held, *lost) if act == "give back" or lease.kind is kinds[act]]
        if pick >= len(leases):
            return
        match act:
            case "complete":
                self._complete(leases[pick], outcomes)
            case "plan":
                self._plan(leases[pick], number, final=len(outcomes) > 1)
            case "advance":
                self._advance(leases[pick])
            case _:
                self._give_back(leases[pick], number)

    def _complete(self, lease: Lease, outcomes: list[TaskStatus | Again]) -> None:
        live = self._is_live(lease)
        first, last = self.spans[lease.token] if live else (lease.first, lease.first + 1)
        told = outcomes[: last - first]
        answer = complete_one(self.store, report(lease, *told, first=first))
        assert (answer.outcome is CompletionOutcome.RECORDED) == live, "a held lease records, and no other does"
        if live:
            self.spans[lease.token] = (first + len(told), last)
            for index, outcome in enumerate(told, first):
                self.attempts[lease.stage_id, index] += isinstance(outcome, Again)
        if answer.is_last_task_in_stage:
            self.lasts[lease.stage_id] = self.lasts.get(lease.stage_id, 0) + 1
            assert self.lasts[lease.stage_id] == 1, "one finisher of a stage is told that it was the last"
            assert self._all_ended(lease.stage_id), "the last is told when everything has ended"
        if answer.advance is not None:
            assert answer.is_last_task_in_stage, "only the last receives the advancement"
            self._note([answer.advance])

    def _give_back(self, lease: Lease, keep: int) -> None:
        """Beat once more for a lease, then give its tail back."""
        live = self._is_live(lease)
        held = HeldLease(range_id=lease.range_id, token=lease.token, current_index=lease.first)
        assert self.store.extend_leases("ada", [held], LEASE_SECONDS).held == ([lease.token] if live else [])
        first, last = self.spans[lease.token] if live else (lease.first, lease.first + 1)
        tail = min(first + keep, last - 1)
        assert self.store.return_ranges([give_back(lease, tail)]) == [live]
        self.spans[lease.token] = (first, tail)

    def _plan(self, lease: Lease, width: int, *, final: bool) -> None:
        stage = self._stage(lease)
        live = self._is_live(lease)
        status = self._status()
        part = chunk(
            lease,
            width,
            first_index=stage.task_count,
            digest_before=stage.plan_digest,
            final=final or stage.task_count > 4,
            range_count=2,
        )
        outcome = self.store.add_tasks(part)
        if not live:
            assert outcome is PlanOutcome.STALE
        elif status in TERMINAL_JOB_STATUSES or lease.run != self.run:
            assert outcome is PlanOutcome.JOB_ENDED
        else:
            assert outcome is (PlanOutcome.PAUSED if status is JobStatus.PAUSED else PlanOutcome.RECORDED)

    def _advance(self, lease: Lease) -> None:
        live = self._is_live(lease)
        answer = advance(self.store, lease, *(self.following if lease.stage_number == 1 else []))
        if not live:
            assert answer.outcome in {AdvanceOutcome.STALE, AdvanceOutcome.ALREADY_ADVANCED}
        elif lease.run != self.run:
            assert answer.outcome is AdvanceOutcome.JOB_ENDED, "a former run moves nothing"
        match answer.outcome:
            case AdvanceOutcome.ADVANCED:
                assert self._all_ended(lease.stage_id), "a stage is left when all its tasks have ended"
                assert lease.stage_id not in self.advanced, "a stage is left once"
                self.advanced.add(lease.stage_id)
                assert answer.plan is not None
                self._note([answer.plan])
            case AdvanceOutcome.GROUP_CLOSED:
                assert finish(self.store, lease).job_updated
            case AdvanceOutcome.GROUP_FAILED:
                assert fail_with(self.store, lease, "a stage failed")
            case _:
                pass

    # What time, death and operators do.

    def _recover(self, act: str, seconds: float) -> None:
        """Let time pass and recover by the clock, or by the beats that were seen at the last look."""
        if act == "recover":
            self.store.move_clock(seconds)
            self.store.recover(expired=None, death_budget=_DEATH_BUDGET, limit=100)
        else:
            self.store.recover(expired=self.seen, death_budget=_DEATH_BUDGET, limit=100)
        self.seen = self.store.list_leases(100)

    def _operate(self, act: str, index: int, stage: int) -> None:
        match act:
            case "pause":
                self._change(JobStatus.PAUSED)
            case "resume":
                self._change(JobStatus.PROCESSING)
            case "end" if (stage, index) in {(2, 4), (2, 5)}:
                self._cancel()
            case "resubmit":
                if index == 4:  # amid the work, so that leases of the former run are held
                    self._cancel()
                self._resubmit(from_stage_2=index > 0)
            case "repair":
                self._repair(stage, index)
            case "requeue":
                self._close_task(stage, index, TaskStatus.QUEUED)
            case "fail":
                self._close_task(stage, index, TaskStatus.FAILED)
            case "skip":
                self._close_task(stage, index, TaskStatus.SKIPPED)

    def _cancel(self) -> None:
        self.store.end_job(JobEnding(job_id=self.job.job_id, status=JobStatus.CANCELLED, error_details="enough"))

    def _resubmit(self, *, from_stage_2: bool) -> None:
        """Run the job again if it failed or was cancelled; where the first stage is done, from the second."""
        if self._status() not in {JobStatus.FAILED, JobStatus.CANCELLED}:
            return
        begun = self.store.list_stages(self.job.job_id, self.run)
        skips = from_stage_2 and len(begun) > 1 and begun[0].stored_result is not None and begun[0].status in _DONE
        opened = tuple(self.following) if skips else (self.job.first_stage,)
        record = self.store.resubmit_job(NewRun(job_id=self.job.job_id, former_run=self.run, stages=opened))
        assert record is not None
        self.run += 1
        assert (record.run, record.status) == (self.run, JobStatus.QUEUED)
        self.ending = None

    def _repair(self, number: int, index: int) -> None:
        """Run one or two tasks of a stage again, where the job has ended and the stage can be repaired."""
        begun = {stage.stage_number: stage for stage in self.store.list_stages(self.job.job_id, self.run)}
        if self._status() not in TERMINAL_JOB_STATUSES or number not in list_repairable(list(begun.values())):
            return
        count, former = begun[number].task_count, begun[number]
        tasks = tuple(sorted({index % count, (2 * index + 1) % count}))
        opened = next(each for each in (self.job.first_stage, *self.following) if each.stage_number == number)
        asked = StageRepair(job_id=self.job.job_id, former_run=self.run, stage=opened, tasks=tasks)
        record = self.store.repair_stage(asked)
        assert record is not None
        self.run += 1
        assert (record.run, record.status) == (self.run, JobStatus.QUEUED)
        stage = next(each for each in self.store.list_stages(self.job.job_id, self.run) if each.stage_number == number)
        assert (stage.generation, stage.remaining) == (former.generation + 1, len(tasks))
        self.ending = None

    def _close_task(self, number: int, index: int, status: TaskStatus) -> None:
        stages = {record.stage_number: record for record in self.store.list_stages(self.job.job_id, self.run)}
        if self.ending is not None or number not in stages or index >= stages[number].task_count:
            return
        task = get_tasks(self.store, self.job, number)[index]
        ended = task.status in TERMINAL_TASK_STATUSES
        assert self.store.close_task(self.job.job_id, number, index, status, "by hand") == (not ended)
        if task.status is TaskStatus.PROCESSING:
            self._cut_off(stages[number].stage_id, index)
            self.attempts[stages[number].stage_id, index] += status is TaskStatus.QUEUED

    # What must hold at any time.

    @invariant()
    def the_partition_holds(self) -> None:
        """Results and ranges cover every stage once, those of former runs as well."""
        for run in range(1, self.run + 1):
            check_partition(self.store, self.job, run=run)

    @invariant()
    def what_has_ended_stays_ended(self) -> None:
        """No terminal status of a task or of the job ever changes, but by a new run, which leaves the former one alone."""
        for run in range(1, self.run + 1):
            for stage in self.store.list_stages(self.job.job_id, run):
                for task in get_tasks(self.store, self.job, stage.stage_number, run=run):
                    known = self.ends.get((stage.stage_id, task.task_index))
                    assert known is None or known is task.status, "a task that has ended keeps its status"
                    if task.status in TERMINAL_TASK_STATUSES:
                        self.ends[stage.stage_id, task.task_index] = task.status
        status = self._status()
        assert self.ending is None or self.ending is status, "a job that has ended keeps its status"
        if status in TERMINAL_JOB_STATUSES:
            self.ending = status

    @invariant()
    def each_end_is_told_once(self) -> None:
        """The history has one end of each run that ended, with its status, and no stage is closed twice in a run."""
        events: list[JobEvent] = []
        while page := self.store.list_events(
            self.job.job_id, after=events[-1].event_id if events else BEFORE_ALL, limit=MOST_EVENTS
        ):
            events += page
        status = self._status()
        ended = [(event.run, event.status) for event in events if event.kind is EventKind.JOB_ENDED]
        last_ended = self.run if status in TERMINAL_JOB_STATUSES else self.run - 1
        assert [run for run, _ in ended] == list(range(1, last_ended + 1)), "each run that ended tells of it once"
        assert last_ended < self.run or ended[-1] == (self.run, status), "the end is told as it was"
        closed = Counter((event.run, event.stage_number) for event in events if event.kind is EventKind.STAGE_CLOSED)
        assert all(times == 1 for times in closed.values()), "no stage of a run is closed twice"

    def teardown(self) -> None:
        """Bring the job to its end."""
        if self.begun:
            drain(self.store, self.job)
            let_leases_expire(self.store)
            self.what_has_ended_stays_ended()
            self.each_end_is_told_once()
            for run in range(1, self.run + 1):
                stages = self.store.list_stages(self.job.job_id, run)
                assert not any(stage.remaining for stage in stages), "nothing of any run is left open"

    def _note(self, leases: list[Lease]) -> None:
        for lease in sorted(leases, key=lambda lease: lease.token):
            assert lease.token > self.highest_token, "every token is larger than those before"
            self.highest_token = lease.token
            self.spans[lease.token] = (lease.first, lease.last)
            self.known[lease.token] = lease

    def _cut_off(self, stage_id: int, index: int) -> None:
        """Note that whoever holds a task that an operator closed keeps at most what comes before it."""
        for token, (first, last) in self.spans.items():
            if self.known[token].stage_id == stage_id and first <= index < last:
                self.spans[token] = (first, index)

    def _held(self) -> list[Lease]:
        """Return the leases of this job that are held, by token."""
        live = {seen.token for seen in self.store.list_leases(100)}
        return [lease for token, lease in self.known.items() if token in live]

    def _change(self, status: JobStatus) -> None:
        if StatusValidator.may_follow(self._status(), status):
            assert self.store.change_job_status(self.job.job_id, status, JobUpdate()) is not None

    def _status(self) -> JobStatus:
        return get_shallow_job(self.store, self.job.job_id).status

    def _stage(self, lease: Lease) -> StageRecord:
        stage = self.store.get_stage(lease.stage_id)
        assert stage is not None
        return stage

    def _all_ended(self, stage_id: int) -> bool:
        stage = self.store.get_stage(stage_id)
        assert stage is not None
        tasks = get_tasks(self.store, self.job, stage.stage_number)
        return TERMINAL_TASK_STATUSES.issuperset(task.status for task in tasks)

    def _is_live(self, lease: Lease) -> bool:
        return any((seen.range_id, seen.token) == (lease.range_id, lease.token) for seen in self.store.list_leases(100))


def run_schedules(store: MovableStore, *, schedules: int, steps: int, repeatable: bool = True) -> None:
    """Run generated schedules against a store, each on a job of its own; the same ones every time where repeatable."""
    run_machine(lambda: StoreMachine(store), schedules=schedules, steps=steps, repeatable=repeatable)


def run_machine(make: Callable[[], StoreMachine], *, schedules: int, steps: int, repeatable: bool) -> None:
    """Run generated schedules, each on a machine of its own; the same ones every time where repeatable."""
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", make),  # it is called and no more
        settings=settings(
            max_examples=schedules,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=repeatable,
            suppress_health_check=list(HealthCheck),
        ),
    )


def run_walk(store: MovableStore, *, seed: int, steps: int) -> None:
    """Run one random schedule against a store; the same seed is the same schedule.

    Hypothesis likes its draws small and alike, and shrinks what it finds; dice reach further.
    """
    dice = Random(seed)  # noqa: S311  a test's dice
    machine = StoreMachine(store)
    machine.begin(
        fail_fast=dice.random() < 0.3,
        rate=dice.choice([None, 60.0]),
        stage_group=dice.random() < 0.5,
        planned=dice.choice(_PLANNED),
        ranges=dice.randint(1, 3),
    )
    try:
        for _ in range(steps):
            machine.step(
                act=dice.choice(_ACTS),
                worker=dice.choice(_WORKERS),
                pick=dice.randint(0, 5),
                number=dice.randint(0, 5),
                outcomes=dice.choices(_OUTCOMES, k=dice.randint(1, 4)),
            )
            machine.the_partition_holds()
            machine.what_has_ended_stays_ended()
            machine.each_end_is_told_once()
        machine.teardown()
    except (AssertionError, StageflowError) as error:
        error.add_note(f"seed {seed}, after {machine.told}")
        raise


class ScheduleConformance(StoreScenarios):
    """The protocol under generated schedules; a subclass may ask for more of them, and for others every time."""

    schedules = 30
    steps = 40
    repeatable = True

    def test_the_protocol_holds_under_generated_schedules(self, store: MovableStore) -> None:
        """Whatever happens, in whatever order: the partition holds, one is the last, and the job can still end."""
        run_schedules(store, schedules=self.schedules, steps=self.steps, repeatable=self.repeatable)

    def test_the_protocol_holds_under_random_schedules(self, store: MovableStore) -> None:
        """The same, with fair dice."""
        for seed in range(self.schedules):
            run_walk(store, seed=seed, steps=self.steps)
