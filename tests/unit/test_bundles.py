"""Jobs carried out in step by one slot: what goes together, whose error is whose, and that none waits for another's code."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import pytest

from stageflow import (
    BaseController,
    Contract,
    JobExecutionContext,
    JobRegistry,
    JobStatus,
    Keyed,
    PermanentTaskError,
    StageExecutionContext,
    Stageflow,
    StageResults,
    TaskExecutionContext,
    WorkerOptions,
    stage,
    task,
)
from stageflow.contracts.lease import ClaimRequest, Lease, WorkKind
from stageflow.engine import execute, plan
from stageflow.errors import StoreError, StoreUnreachableError
from stageflow.telemetry import Event
from stageflow.testing.drain import drain_work, move_clock
from stageflow.worker import bundle
from stageflow.worker.bundle import Bundle
from stageflow.worker.dispatch import Carried, Dispatcher
from stageflow.worker.handlers import HandlerRunner
from stageflow.worker.heartbeat import Heartbeat
from stageflow.worker.sizes import CONTROL_SECONDS, MOST_CONTROL, ClaimSizes

PATIENCE: Final = 30.0
registry = JobRegistry()
deeds: dict[str, Callable[[], None]] = {}


class Name(Contract):
    """Parameters of jobs and tasks, and results of tasks."""

    name: str


class Keys(Contract):
    """Parameters of jobs whose tasks have keys."""

    keys: list[str]


def do(what: str) -> None:
    """Do what a test wants to happen here, if anything."""
    if what in deeds:
        deeds[what]()


@task("greet")
def greet(parameters: Name, context: TaskExecutionContext) -> Name:  # noqa: ARG001
    """Do what is to be done, and return the name."""
    do(f"run {parameters.name}")
    return parameters


class Greetings(BaseController[Name]):
    """Two stages of two tasks, or more."""

    first = stage(1, "first", task=greet)
    second = stage(2, "second", task=greet, after=first)

    @first.plan
    def plan_first(self, job: JobExecutionContext[Name]) -> Iterator[Name]:
        """Plan the job's name twice."""
        do(f"plan {job.parameters.name}")
        yield from [job.parameters] * 2

    @second.plan
    def plan_second(self, job: JobExecutionContext[Name], results: StageResults[Name]) -> Iterator[Name]:
        """Plan what the first stage returned."""
        do(f"plan again {job.parameters.name}")
        yield from results

    def should_advance_stage(self, job: JobExecutionContext[Name], stage: StageExecutionContext) -> bool:  # noqa: ARG002
        """Advance, after what is to be done."""
        do(f"advance {job.parameters.name}")
        return True


@task("keyed")
def keyed(parameters: Name, context: TaskExecutionContext) -> None:
    """Do nothing."""


class WithKeys(BaseController[Keys]):
    """One stage of tasks with keys."""

    only = stage(1, "only", task=keyed)

    @only.plan
    def plan_only(self, job: JobExecutionContext[Keys]) -> Iterator[Keyed[Name]]:
        """Plan a task for each key."""
        yield from (Keyed(key=key, parameters=Name(name=key)) for key in job.parameters.keys)


registry.register(Greetings, "greetings")
registry.register(WithKeys, "keyed")


class Slot:
    """A dispatcher, and what it was asked to do of the store."""

    def __init__(self, app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        handlers = HandlerRunner(1, telemetry=app.telemetry)
        self.dispatcher = Dispatcher(
            app.registry,
            app.repositories,
            app.telemetry,
            handlers,
            worker_id="ada",
            lease_seconds=60.0,
            death_budget=3,
            plans_to_run=True,
        )
        self.dispatcher.sizes.learn("greetings/1/greet", 10, 0.001, 0.001)
        # How fast this machine is does not matter: a plan is one chunk, a lease one report, and leases stay as large.
        monkeypatch.setattr(self.dispatcher.sizes, "learn", lambda *_: None)
        monkeypatch.setattr(plan, "CHUNK_SECONDS", PATIENCE)
        monkeypatch.setattr(execute, "FLUSH_SECONDS", PATIENCE)
        self.asked: list[tuple[str, int]] = []
        for name in ("add_tasks_and_lease", "complete_tasks", "advance_job_stages", "check_job_completions"):
            self._watch(monkeypatch, name)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(self.app.repositories.store, name)

        def watched(items: list[Any], *others: Any, **named: Any) -> Any:
            self.asked.append((name, len(items)))
            return original(items, *others, **named)

        monkeypatch.setattr(self.app.repositories.store, name, watched)

    def submit(self, *names: str) -> list[str]:
        """Submit jobs, and return their ids."""
        return [self.app.submit(Greetings, Name(name=name)).job.job_id for name in names]

    def claim(self, most: int = MOST_CONTROL) -> list[Lease]:
        """Claim a bundle."""
        types = [kind for workflow in registry.workflows() for kind in workflow.work_types()]
        request = ClaimRequest(
            worker_id="ada",
            work_types=types,
            max_tasks=[most] * len(types),
            max_leases=1,
            lease_seconds=60.0,
            bundled=True,
        )
        return self.app.repositories.leases.claim_work(request).leases

    def work(self) -> list[Carried]:
        """Claim a bundle and carry it out."""
        return self.dispatcher.carry_out_all(self.claim())

    @contextmanager
    def stuck(self, deed: str) -> Iterator[Future[list[Carried]]]:
        """Carry a bundle out in another thread up to a deed, and let it go on in the end."""
        begun, go_on = threading.Event(), threading.Event()

        def wait() -> None:
            begun.set()
            assert go_on.wait(PATIENCE)

        deeds[deed] = wait
        with ThreadPoolExecutor(1) as threads:
            future = threads.submit(self.work)
            try:
                assert begun.wait(PATIENCE)
                yield future
            finally:
                go_on.set()
            future.result(PATIENCE)

    def completed_tasks(self, ids: list[str]) -> list[int]:
        """Return how many tasks of each job's first stage the store knows to have completed."""
        states = self.app.repositories.store.get_job_states(ids)
        return [state.stages[0].successful_tasks for state in states]

    def statuses(self, ids: list[str]) -> list[JobStatus]:
        """Return the statuses of jobs."""
        return [self.app.job(job_id).status for job_id in ids]


@pytest.fixture
def events() -> list[Event]:
    """Give the list that the app's events are added to."""
    return []


@pytest.fixture
def app(events: list[Event]) -> Iterator[Stageflow]:
    """Give an app whose work nobody does."""
    deeds.clear()
    with Stageflow("sqlite::memory:", registry=registry) as app:
        app.migrate()
        with app.telemetry.listening(events.append):
            yield app


@pytest.fixture
def slot(app: Stageflow, monkeypatch: pytest.MonkeyPatch) -> Slot:
    """Give a slot that works when it is told to."""
    return Slot(app, monkeypatch)


def test_jobs_in_step_ask_the_store_together(slot: Slot) -> None:
    """Eight jobs are planned, run and ended with as many calls as one."""
    ids = slot.submit(*map(str, range(8)))
    carried = slot.work()
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 8
    assert [(each.tasks_run, each.stages_planned, each.stages_advanced, each.job_ended) for each in carried] == [
        (4, [1, 2], [1, 2], True)
    ] * 8
    assert slot.asked == [
        ("add_tasks_and_lease", 8),
        ("complete_tasks", 8),
        ("advance_job_stages", 8),
        ("add_tasks_and_lease", 8),
        ("complete_tasks", 8),
        ("check_job_completions", 8),
    ]


def test_a_job_that_fails_fails_alone(slot: Slot) -> None:
    """A hook that raises, and a plan that the store refuses, which it takes back with those beside it."""
    ids = slot.submit("a", "b", "c")
    ids.append(slot.app.submit(WithKeys, Keys(keys=["x", "x"])).job.job_id)
    ids.append(slot.app.submit(WithKeys, Keys(keys=["x", "y"])).job.job_id)

    def fail() -> None:
        message = "not today"
        raise ValueError(message)

    deeds["plan b"] = fail
    deeds["advance c"] = fail
    slot.work()
    while leases := slot.claim():
        slot.dispatcher.carry_out_all(leases)
    assert slot.statuses(ids) == [
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.FAILED,
        JobStatus.FAILED,
        JobStatus.COMPLETED,
    ]
    reasons = [slot.app.job(job_id).error_details or "" for job_id in ids]
    assert "not today" in reasons[1]
    assert "not today" in reasons[2]
    assert "two tasks of the stage have the key 'x'" in reasons[3]


def test_a_failing_task_fails_in_its_job(slot: Slot) -> None:
    """The report of the failure goes with the others."""
    ids = slot.submit("a", "b")

    def fail() -> None:
        message = "this one"
        raise PermanentTaskError(message)

    deeds["run a"] = fail
    slot.work()
    drain_work(slot.app)
    assert slot.statuses(ids) == [JobStatus.COMPLETED_WITH_ERRORS, JobStatus.COMPLETED]
    assert slot.asked[1] == ("complete_tasks", 2)


def test_the_store_away_is_one_trouble(slot: Slot, monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> None:
    """It is asked once more and raised once, nobody asks one by one, and the leases are left to recovery."""
    ids = slot.submit("a", "b", "c")
    calls: list[int] = []

    def away(items: list[Any], *_: Any, **__: Any) -> Any:
        calls.append(len(items))
        message = "the store is away; start it"
        raise StoreUnreachableError(message)

    with monkeypatch.context() as patch:
        patch.setattr(slot.app.repositories.store, "complete_tasks", away)
        with pytest.raises(StoreUnreachableError, match="away") as caught:
            slot.work()
    assert calls == [3, 3]
    assert caught.value.__notes__ == [f"This was task work of stage 1 of job {ids[0]}."]
    assert slot.dispatcher.board.running() == []
    events.clear()
    move_clock(slot.app, 61)
    assert slot.app.maintain().recovery.returned == 3
    drain_work(slot.app)
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 3


@pytest.mark.parametrize("written", [True, False])
def test_a_lost_answer_is_asked_for_again(slot: Slot, monkeypatch: pytest.MonkeyPatch, *, written: bool) -> None:
    """A cut connection costs the jobs of a bundle no wait for their leases' end, whether the call had arrived or not."""
    ids = slot.submit("a", "b", "c")
    store, cut = slot.app.repositories.store, [True]
    original = store.complete_tasks

    def report(*items: Any, **named: Any) -> Any:
        if not cut:
            return original(*items, **named)
        cut.clear()
        if written:
            original(*items, **named)
        message = "the connection was cut; try again"
        raise StoreUnreachableError(message)

    monkeypatch.setattr(store, "complete_tasks", report)
    slot.work()
    if written:  # who was to advance the stages was told by the answer that was lost
        assert slot.completed_tasks(ids) == [2, 2, 2]
        move_clock(slot.app, 61)
        assert slot.app.maintain().recovery.returned == 3
        drain_work(slot.app)
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 3


def test_a_store_that_goes_away_is_waited_for_once(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hook that cannot read stops the bundle: the others would wait as long, each in turn. No job fails for it."""
    ids = slot.submit("a", "b", "c")
    asked: list[int] = []

    def away(*_: Any, **__: Any) -> Any:
        asked.append(1)
        message = "the store is away; start it"
        raise StoreUnreachableError(message)

    monkeypatch.setattr(slot.app.repositories.store, "list_result_rows", away)
    with pytest.raises(StoreUnreachableError):
        slot.work()
    assert len(asked) == 1
    assert slot.dispatcher.board.running() == []
    assert slot.statuses(ids) == [JobStatus.PROCESSING] * 3


def test_waiting_for_its_turn_is_not_slow(slot: Slot) -> None:
    """The tail of a lease that has not begun is not given back for that: the whole of it is, if anything."""
    slot.submit("slow", "b")
    with slot.stuck("run slow"):
        kept = {running.lease.job_id: running for running in slot.dispatcher.board.running() if not running.answered}
        assert sorted(running.take_tail(0.0) or 0 for running in kept.values()) == [0, 1]


def test_nobody_is_forgotten_between_slot_and_relief(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relief asks for a job, the slow one ends, the slot finds nothing to ask, then relief is done: the job still goes on."""
    ids = slot.submit("a", "slow")
    original, asked, relieved = Bundle._ask, threading.Event(), threading.Event()  # noqa: SLF001  where the two threads meet
    reports = slot.app.repositories.store.complete_tasks

    def hold_the_slot(self: Bundle) -> bool:
        found = original(self)
        if not found and asked.is_set() and threading.current_thread() is not relief:
            relieved.set()
            relief.join(PATIENCE)
        return found

    def hold_the_relief(*items: Any, **named: Any) -> Any:
        if threading.current_thread() is relief:
            asked.set()
            assert relieved.wait(PATIENCE)
        return reports(*items, **named)

    monkeypatch.setattr(Bundle, "_ask", hold_the_slot)
    monkeypatch.setattr(slot.app.repositories.store, "complete_tasks", hold_the_relief)
    relief = threading.Thread(target=slot.dispatcher.relieve_bundles, args=(0.0,))
    with slot.stuck("run slow"):
        relief.start()
        assert asked.wait(PATIENCE)
    relief.join(PATIENCE)
    assert slot.dispatcher.board.running() == []
    drain_work(slot.app)
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 2


def test_a_listener_that_raises_leaves_no_lease_behind(slot: Slot) -> None:
    """What was handed over before is given back at once, and the heartbeat keeps nothing of it."""
    ids = slot.submit("a", "b")

    def raise_once(event: Event) -> None:
        if event.name == "stage_planned" and event.job_id == ids[0]:
            message = "the listener is broken"
            raise RuntimeError(message)

    with slot.app.telemetry.listening(raise_once), pytest.raises(RuntimeError, match="broken"):
        slot.work()
    assert slot.dispatcher.board.running() == []
    assert slot.statuses(ids) == [JobStatus.PROCESSING, JobStatus.COMPLETED]
    (lease,) = slot.claim()
    assert (lease.job_id, lease.kind, lease.first, lease.last) == (ids[0], WorkKind.TASK, 0, 2)
    slot.dispatcher.carry_out(lease)
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 2


def test_what_could_not_be_given_back_is_tried_again(slot: Slot, monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> None:
    """A store in trouble takes nothing from the jobs under way, and the others are there as soon as it is well."""
    ids = slot.submit("slow", "b", "c")

    def trouble(*_: Any) -> Any:
        message = "a deadlock; try again"
        raise StoreError(message)

    with slot.stuck("plan slow"), monkeypatch.context() as patch:
        patch.setattr(slot.app.repositories.store, "return_ranges", trouble)
        slot.dispatcher.board.draining.set()
        slot.dispatcher.relieve_bundles(0.0)
    assert [event.name for event in events if event.name.startswith(("return", "lease_ret"))] == ["return_failed"]
    slot.dispatcher.relieve_bundles(0.0)
    assert [event.job_id for event in events if event.name == "lease_returned"] == ids[1:]
    assert {lease.job_id for lease in slot.claim()} == set(ids[1:])


def test_a_bundle_that_takes_long_is_relieved_too(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many that are each a little slow: what has not begun after a while goes back, though none of them runs for long."""
    ids = slot.submit("slow", "b")
    with slot.stuck("plan slow"):
        slot.dispatcher.relieve_bundles(PATIENCE)
        assert slot.claim() == []
        monkeypatch.setattr(bundle, "_PATIENCE", 0)
        slot.dispatcher.relieve_bundles(PATIENCE)
        assert [lease.job_id for lease in slot.claim()] == ids[1:]


def test_relief_outlives_what_goes_wrong_in_it(app: Stageflow, events: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks after its bundles again afterwards, and says what went wrong."""
    twice = threading.Event()
    calls: list[float] = []

    def relieve(self: Dispatcher, longer_than_seconds: float) -> None:  # noqa: ARG001
        calls.append(longer_than_seconds)
        if len(calls) > 1:
            twice.set()
        message = "a listener is broken"
        raise RuntimeError(message)

    monkeypatch.setattr(Dispatcher, "relieve_bundles", relieve)
    with app.worker(WorkerOptions(slots=1)):
        assert twice.wait(PATIENCE)
    assert "relief_failed" in {event.name for event in events}


def test_errors_of_several_are_raised_together(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the others have ended."""
    ids = slot.submit("a", "b", "c")
    original = slot.dispatcher._take  # noqa: SLF001  the one step that no verb guards

    def take(answer: Any, *others: Any) -> Any:
        if answer.job_id in ids[:2]:
            message = f"broken for {answer.job_id[:4]}"
            raise RuntimeError(message)
        return original(answer, *others)

    monkeypatch.setattr(slot.dispatcher, "_take", take)
    with pytest.raises(BaseExceptionGroup, match="2 leases of a bundle of 3 failed") as caught:
        slot.work()
    assert sorted(str(error) for error in caught.value.exceptions) == sorted(f"broken for {job_id[:4]}" for job_id in ids[:2])
    assert slot.statuses(ids)[2] is JobStatus.COMPLETED


def test_what_has_not_begun_is_given_back_beside_a_slow_planner(slot: Slot, events: list[Event]) -> None:
    """Others can plan these jobs at once; nothing is given back before it is slow, and nothing twice."""
    ids = slot.submit("slow", "b", "c")
    with slot.stuck("plan slow"):
        slot.dispatcher.relieve_bundles(PATIENCE)
        assert slot.claim() == []
        slot.dispatcher.relieve_bundles(0.0)
        slot.dispatcher.relieve_bundles(0.0)
        assert [event.job_id for event in events if event.name == "lease_returned"] == ids[1:]
        assert len(slot.dispatcher.board.running()) == 1
        other = slot.claim()
        assert [(lease.job_id, lease.kind, lease.attempt, lease.deaths) for lease in other] == [
            (job_id, WorkKind.PLAN, 1, 0) for job_id in ids[1:]
        ]
        slot.dispatcher.carry_out_all(other)
        assert slot.statuses(ids) == [JobStatus.PROCESSING, JobStatus.COMPLETED, JobStatus.COMPLETED]
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 3


def test_what_waits_beside_a_slow_handler_is_reported_without_it(slot: Slot) -> None:
    """And what the reports hand over is left to others, so that these jobs end before the slow task does."""
    ids = slot.submit("a", "b", "slow", "d")
    with slot.stuck("run slow"):
        assert slot.completed_tasks(ids) == [0, 0, 0, 0]
        slot.dispatcher.relieve_bundles(0.0)
        assert slot.completed_tasks(ids) == [2, 2, 0, 0]
        slot.dispatcher.relieve_bundles(0.0)
        while leases := slot.claim():
            slot.dispatcher.carry_out_all(leases)
        assert slot.statuses(ids) == [JobStatus.COMPLETED, JobStatus.COMPLETED, JobStatus.PROCESSING, JobStatus.COMPLETED]
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 4


def test_a_slow_hook_hands_over_what_follows_from_it(slot: Slot) -> None:
    """The plan that an advance gave to a waiting job is claimed by others."""
    ids = slot.submit("a", "slow")
    with slot.stuck("advance slow"):
        slot.dispatcher.relieve_bundles(0.0)
        (lease,) = slot.claim()
        assert (lease.job_id, lease.kind, lease.stage_number) == (ids[0], WorkKind.PLAN, 2)
        slot.dispatcher.carry_out(lease)
        assert slot.statuses(ids) == [JobStatus.COMPLETED, JobStatus.PROCESSING]
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 2


def test_relief_that_fails_is_told_to_the_jobs(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that relieves is not stopped by it; the slot hears of it when it is free again."""
    slot.submit("a", "slow")

    def away(*_: Any, **__: Any) -> Any:
        message = "the store is away; start it"
        raise StoreUnreachableError(message)

    def relieve_in_vain(report: Callable[..., Any]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(slot.app.repositories.store, "complete_tasks", report)
            slot.dispatcher.relieve_bundles(0.0)

    with pytest.raises(StoreUnreachableError, match="away"), slot.stuck("run slow"):
        relieve_in_vain(away)


def test_a_worker_that_stops_gives_back_what_it_has_not_begun(slot: Slot) -> None:
    """Of a bundle, what is under way goes to its next report."""
    ids = slot.submit("slow", "b", "c")
    with slot.stuck("plan slow"):
        slot.dispatcher.board.draining.set()
    assert slot.dispatcher.board.running() == []
    leases = slot.claim()
    assert {lease.job_id for lease in leases} == {*ids[1:]} or slot.claim()
    drain_work(slot.app)
    assert slot.statuses(ids)[0] is JobStatus.COMPLETED


def test_heartbeats_keep_all_of_a_bundle(slot: Slot) -> None:
    """From the claim on, also what has not begun."""
    slot.submit("slow", "b", "c")
    with slot.stuck("plan slow"):
        assert [running.lease.kind for running in slot.dispatcher.board.running()] == [WorkKind.PLAN] * 3


def test_heartbeats_keep_what_an_answer_handed_over(slot: Slot, events: list[Event]) -> None:
    """Before its turn has come, and nothing that was used up by the answer is told to be lost."""
    ids = slot.submit("slow", "b")
    beat = Heartbeat(
        slot.app.repositories,
        slot.dispatcher,
        slot.app.telemetry,
        WorkerOptions(lease_seconds=60.0),
        worker_id="ada",
        work_types=["greetings/1"],
    )
    with slot.stuck("run slow"):
        kept = slot.dispatcher.board.running()
        assert {(each.lease.job_id, each.lease.kind) for each in kept if not each.answered} == {
            (job_id, WorkKind.TASK) for job_id in ids
        }
        move_clock(slot.app, 59)
        beat.beat()
        move_clock(slot.app, 59)
        assert slot.app.maintain().recovery.returned == 0
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 2
    assert [event.name for event in events if event.name in {"lease_lost", "stale_write_refused"}] == []


def test_much_text_goes_in_several_transactions(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is too large by itself goes by itself."""
    ids = slot.submit("a", "x" * 500, "b", "c")
    monkeypatch.setattr(bundle, "MOST_CHARACTERS", 700)
    slot.work()
    assert slot.statuses(ids) == [JobStatus.COMPLETED] * 4
    assert [count for name, count in slot.asked if name == "add_tasks_and_lease"] == [1, 1, 2] * 2
    assert [count for name, count in slot.asked if name == "complete_tasks"] == [1, 1, 2] * 2
    assert sum(count for name, count in slot.asked if name == "check_job_completions") == 4


def test_nobody_is_blamed_for_another_bundles_death(slot: Slot) -> None:
    """A job that was planned beside a killer is planned alone afterwards, and so is the killer."""
    ids = slot.submit("killer", "b", "c")
    assert len(slot.claim()) == 3
    move_clock(slot.app, 61)
    assert slot.app.maintain().recovery.returned == 3
    alone = [slot.claim() for _ in range(3)]
    assert [[lease.deaths for lease in leases] for leases in alone] == [[1]] * 3
    assert {lease.job_id for leases in alone for lease in leases} == set(ids)


class TestSizes:
    """How much control work one claim takes."""

    def _lease(self, slot: Slot, kind: WorkKind) -> Lease:
        slot.submit("x")
        (lease, *_) = slot.claim(1)
        return lease.model_copy(update={"kind": kind})

    def test_it_grows_by_a_factor_up_to_a_bound(self, slot: Slot) -> None:
        """From one, while what follows from a lease is quick."""
        sizes, lease = ClaimSizes(), self._lease(slot, WorkKind.PLAN)
        seen = []
        for _ in range(4):
            (size,) = sizes.of(["greetings/1"])
            seen.append(size)
            sizes.learn_control([lease] * size, 0.0001 * size)
        assert seen == [1, 4, 16, MOST_CONTROL]

    def test_it_shrinks_at_once(self, slot: Slot) -> None:
        """To what fits into the time, and never below one."""
        sizes, lease = ClaimSizes(), self._lease(slot, WorkKind.ADVANCE)
        sizes.learn_control([lease] * 8, 0.0001)
        sizes.learn_control([lease] * 8, CONTROL_SECONDS * 2)
        assert sizes.of(["greetings/1"]) == [4]
        sizes.learn_control([lease] * 4, CONTROL_SECONDS * 100)
        assert sizes.of(["greetings/1"]) == [1]

    def test_tasks_count_for_nothing(self, slot: Slot) -> None:
        """A lease on tasks says nothing about control work."""
        sizes, lease = ClaimSizes(), self._lease(slot, WorkKind.TASK)
        sizes.learn_control([lease] * 8, 0.0001)
        assert sizes.of(["greetings/1"]) == [1]

    def test_a_type_answers_for_its_share(self, slot: Slot) -> None:
        """Two types in one bundle share its time by their numbers."""
        sizes, lease = ClaimSizes(), self._lease(slot, WorkKind.PLAN)
        other = lease.model_copy(update={"job_type": "keyed"})
        sizes.learn_control([lease] * 2 + [other] * 6, CONTROL_SECONDS)
        assert sizes.of(["greetings/1", "keyed/1"]) == [8, 8]
