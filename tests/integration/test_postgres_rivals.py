"""Many at once on PostgreSQL: whatever rivals do to each other, nothing is lost, done twice, deadlocked or stuck."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Final

import psycopg
import pytest

from stageflow.backends.postgres import PostgresStore
from stageflow.contracts.advancement import AdvanceOutcome
from stageflow.contracts.job import JobUpdate, NewJob
from stageflow.contracts.lease import (
    ClaimOutcome,
    CompletionOutcome,
    HeldLease,
    Lease,
    RangeCompletion,
    TaskCompletionResult,
    WorkKind,
)
from stageflow.contracts.status import JobStatus, TaskStatus
from stageflow.errors import InvalidTransitionError
from stageflow.testing.conformance.builders import (
    BAD,
    LEASE_SECONDS,
    OK,
    Again,
    advance,
    all_types,
    ask,
    chunk,
    claim_one,
    complete,
    complete_ok,
    create,
    finish,
    give_back,
    new_job,
    new_stage,
    recover,
    report,
    start,
    tasks_type,
)
from stageflow.testing.conformance.crowd import crowd
from stageflow.testing.conformance.looking import fail_with

_UNCOVERED: Final = """
select s.stage_id, s.task_count, s.remaining, covered.width, covered.open
from stageflow.stages s cross join lateral (
    select coalesce(sum(c.last - c.first), 0) as width, coalesce(sum(c.last - c.first) filter (where c.open), 0) as open,
        count(*) filter (where c.first < c.before) as overlaps
    from (
        select p.*, max(p.last) over (order by p.first rows between unbounded preceding and 1 preceding) as before
        from (
            select r.first, r.last, r.state in ('ready', 'leased', 'waiting', 'held') as open
            from stageflow.ranges r where r.stage_id = s.stage_id and r.kind = 'task'
            union all
            select t.task_index, t.task_index + 1, false from stageflow.results t where t.stage_id = s.stage_id
        ) p
    ) c
) covered
where covered.width <> s.task_count or covered.open <> s.remaining or covered.overlaps > 0
"""


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    """Give a migrated store with a connection for each of sixteen threads."""
    store = PostgresStore(postgres_dsn, pool_size=16)
    store.migrate()
    yield store
    store.close()


def test_of_sixteen_finishers_at_once_exactly_one_is_last(store: PostgresStore) -> None:
    """The barrier falls once, however close together the finishers are."""
    for round_number in range(8):
        job = new_job(f"round {round_number}")
        start(store, job, 16, range_count=16)
        leases = [claim_one(store, tasks_type(job)) for _ in range(16)]
        reports = [complete_ok(lease) for lease in leases]
        flat = crowd(16, partial(_complete_at, store, reports))
        assert Counter(answer.is_last_task_in_stage for answer in flat) == {False: 15, True: 1}
        assert [answer.advance.job_id for answer in flat if answer.advance is not None] == [job.job_id]
        assert min(answer.remaining_tasks for answer in flat) == 0


def _complete_at(store: PostgresStore, reports: list[RangeCompletion], number: int) -> TaskCompletionResult:
    return complete(store, reports[number])[0]


def test_the_same_report_from_sixteen_threads_is_recorded_once(store: PostgresStore) -> None:
    """A repeat that races its original is told so, and counts nothing twice."""
    job = new_job()
    start(store, job, 4)
    lease = claim_one(store, tasks_type(job))
    answers = crowd(16, lambda _: complete(store, complete_ok(lease))[0])
    assert Counter(answer.outcome for answer in answers) == {
        CompletionOutcome.RECORDED: 1,
        CompletionOutcome.ALREADY_RECORDED: 15,
    }
    assert sum(answer.is_last_task_in_stage for answer in answers) == 1


def test_no_claim_says_empty_while_a_rival_holds_ready_work(store: PostgresStore) -> None:
    """False empty: rivals on one range answer work or busy until the last task is leased."""
    job = new_job()
    start(store, job, 400)

    def drain(number: int) -> int:
        tasks = 0
        while True:
            answer = ask(store, tasks_type(job), worker=f"w{number}", max_tasks=5, max_leases=1)
            tasks += sum(lease.last - lease.first for lease in answer.leases)
            if answer.outcome is ClaimOutcome.EMPTY:
                assert store.list_unannounced(older_than_seconds=None, limit=1) == [], "told empty, and there is ready work"
                return tasks

    assert sum(crowd(8, drain)) == 400


class _Chaos:
    """A worker that does everything a worker or an operator can do, in an order drawn from a seed."""

    def __init__(self, store: PostgresStore, jobs: list[NewJob], seed: int) -> None:
        self._store = store
        self._jobs = jobs
        self._dice = Random(seed)  # noqa: S311  a schedule, not a secret
        self._name = f"chaos {seed}"
        self._leases: list[Lease] = []

    def act(self) -> None:
        """Do one thing."""
        match self._dice.randrange(12):
            case 0 | 1 | 2 | 3:
                self._claim()
            case 4 | 5 | 6:
                self._finish_something()
            case 7:
                held = [HeldLease(range_id=one.range_id, token=one.token, current_index=one.first) for one in self._leases]
                self._store.extend_leases(self._name, held, LEASE_SECONDS)
            case 8:
                self._give_back()
            case 9:
                self._operate()
            case 10:
                recover(self._store, limit=50)
            case _:
                self._recover_watched()

    def drain(self) -> None:
        """Finish what is held."""
        while self._leases:
            self._finish_something()

    def _claim(self) -> None:
        types = all_types(self._jobs[0])
        answer = ask(self._store, *types, worker=self._name, max_tasks=self._dice.choice((1, 3, 20)), max_leases=3)
        self._leases += answer.leases

    def _finish_something(self) -> None:
        tasks = [lease for lease in self._leases if lease.kind is WorkKind.TASK]
        control = [lease for lease in self._leases if lease.kind is not WorkKind.TASK]
        self._leases = control
        reports = [report(lease, *(self._outcome() for _ in range(lease.last - lease.first))) for lease in tasks]
        for answer in complete(self._store, *reports, worker=self._name) if reports else []:
            if answer.advance is not None:
                self._leases.append(answer.advance)
        if self._leases:
            self._move_on(self._leases.pop())

    def _outcome(self) -> TaskStatus | Again:
        return self._dice.choices((OK, BAD, Again(0), Again(0.001)), (90, 2, 5, 3))[0]

    def _move_on(self, lease: Lease) -> None:
        if lease.kind is WorkKind.PLAN:
            self._store.add_tasks(chunk(lease, self._dice.choice((0, 1, 40)), range_count=4))
        elif lease.stage_number == 1:
            answer = advance(self._store, lease, new_stage(2, group=(2, 3)), new_stage(3, group=(2, 3)), worker=self._name)
            self._leases += [] if answer.plan is None else [answer.plan]
        else:
            answer = advance(self._store, lease, worker=self._name)
            match answer.outcome:
                case AdvanceOutcome.GROUP_CLOSED:
                    finish(self._store, lease)
                case AdvanceOutcome.GROUP_FAILED:
                    fail_with(self._store, lease, "a stage failed")
                case _:
                    pass

    def _give_back(self) -> None:
        given, self._leases = self._leases, []
        self._store.return_ranges([give_back(lease, self._dice.randrange(lease.first, lease.last)) for lease in given])

    def _operate(self) -> None:
        job_id = self._dice.choice(self._jobs).job_id
        status = self._dice.choice((JobStatus.PAUSED, JobStatus.PROCESSING, JobStatus.PROCESSING))
        try:
            self._store.change_job_status(job_id, status, JobUpdate())
        except InvalidTransitionError:
            by_hand = self._dice.choice((TaskStatus.QUEUED, TaskStatus.SKIPPED, TaskStatus.FAILED))
            self._store.close_task(job_id, 1, self._dice.randrange(40), by_hand, None)

    def _recover_watched(self) -> None:
        seen = self._store.list_leases(100)
        self._store.recover(expired=self._dice.sample(seen, min(2, len(seen))), death_budget=4, limit=50)


@pytest.mark.parametrize("seed", range(3))
def test_chaos_keeps_the_partition_and_ends(store: PostgresStore, postgres_dsn: str, seed: int) -> None:
    """Workers, recoverers and operators at once: no deadlock, every index in one place, counters as rows, and all jobs end."""
    jobs = [new_job(f"chaos {number}", stages=3, priority=number % 2) for number in range(6)]
    create(store, *jobs)

    def rampage(number: int) -> None:
        chaos = _Chaos(store, jobs, seed * 100 + number)
        for _ in range(150):
            chaos.act()
        chaos.drain()

    crowd(8, rampage)
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute(_UNCOVERED).fetchall() == []
    _end_all(store, jobs)
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute(_UNCOVERED).fetchall() == []
        assert connection.execute("select * from stageflow.ranges where state not in ('skipped', 'cancelled')").fetchall() == []


def _end_all(store: PostgresStore, jobs: list[NewJob]) -> None:
    """Resume, recover and work until nothing is left; every job must have ended."""
    for job in jobs:
        (record,) = store.get_jobs([job.job_id])
        if record.status is JobStatus.PAUSED:
            store.change_job_status(job.job_id, JobStatus.PROCESSING, JobUpdate())
    closer = _Chaos(store, jobs, seed=0)
    for _ in range(200):
        store.move_clock(LEASE_SECONDS + 1)
        recover(store, death_budget=100)
        closer._claim()  # noqa: SLF001  the rest of the story, told by the same actor
        closer.drain()
    assert [record.status for record in store.get_jobs([job.job_id for job in jobs]) if not record.is_terminal] == []
