"""What is SQLite's alone: its file, its memory, its errors, and its one schema text."""

import os
import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stageflow.backends.sqlite import SqliteStore
from stageflow.backends.sqlite.decisions import group_retries, should_halt, split_evenly
from stageflow.backends.sqlite.leases import _HEADS, _NEXT_DUE, _OPEN_DUE
from stageflow.backends.sqlite.ranges import Work
from stageflow.contracts.dead_letter import DeadLetterState
from stageflow.contracts.lease import Retry, WorkKind
from stageflow.contracts.schema import SCHEMA_VERSION, SchemaState
from stageflow.contracts.status import TERMINAL_TASK_STATUSES, JobStatus, StageStatus
from stageflow.errors import (
    IdempotencyConflictError,
    SchemaVersionError,
    StoreStateError,
    StoreUnreachableError,
    StoreUnsuitableError,
)
from stageflow.testing.conformance.builders import claim_all, complete, complete_ok, new_job, start, tasks_type
from stageflow.testing.conformance.looking import check_partition

_WIDTH = 500
_SLICE = 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a file that is not there yet."""
    return tmp_path / "stageflow.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """Give a migrated store on a file."""
    store = SqliteStore(path)
    store.migrate()
    yield store
    store.close()


@contextmanager
def _raw(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file past the store, each statement a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        yield raw


def test_threads_share_the_memory() -> None:
    """``:memory:`` is one database for all threads: each task runs once, and one finisher is the last."""
    store = SqliteStore(":memory:")
    store.migrate()
    job = new_job()
    start(store, job, _WIDTH, range_count=8)

    def drain(worker: str) -> tuple[list[int], int]:
        indexes: list[int] = []
        last = 0
        while leases := claim_all(store, tasks_type(job), worker=worker, max_tasks=_SLICE, max_leases=1):
            indexes += range(leases[0].first, leases[0].last)
            last += complete(store, complete_ok(leases[0]), worker=worker)[0].is_last_task_in_stage
        return indexes, last

    with ThreadPoolExecutor(4) as pool:
        drained = list(pool.map(drain, ["ada", "bob", "eve", "joe"]))
    assert sorted(index for indexes, _ in drained for index in indexes) == list(range(_WIDTH))
    assert sum(last for _, last in drained) == 1
    check_partition(store, store.get_jobs([job.job_id])[0])
    store.close()


def test_two_memories_are_apart() -> None:
    """Each store on ``:memory:`` has a database of its own."""
    first, second = SqliteStore(":memory:"), SqliteStore(":memory:")
    first.migrate()
    assert second.verify().state is SchemaState.MISSING
    first.close()
    second.close()


def test_a_file_that_is_not_there_is_not_made_by_looking(path: Path) -> None:
    """Only ``migrate`` makes the file; everything else says so."""
    store = SqliteStore(path)
    assert store.verify().state is SchemaState.MISSING
    with pytest.raises(SchemaVersionError, match="stageflow migrate --store sqlite:///"):
        store.check_schema()
    with pytest.raises(SchemaVersionError, match="no such file"):
        store.create_jobs([new_job()])
    assert not path.exists()
    store.close()


def test_a_file_without_tables_asks_for_migration(path: Path) -> None:
    """An empty database, or an application's, is a store without schema, not a broken one."""
    with _raw(path) as raw:
        raw.execute("create table mine (id integer)")
    store = SqliteStore(path)
    with pytest.raises(SchemaVersionError, match="stageflow migrate"):
        store.create_jobs([new_job()])
    with pytest.raises(SchemaVersionError, match="stageflow migrate"):
        store.list_stages("0" * 64, 1)
    assert store.migrate().up_to_date
    store.close()


def test_a_missing_folder_is_unreachable(tmp_path: Path) -> None:
    """A path that cannot be opened is said to be unreachable, with the path and what to do."""
    store = SqliteStore(tmp_path / "nowhere" / "stageflow.db")
    with pytest.raises(StoreUnreachableError, match=r"nowhere.*check that the folder exists"):
        store.migrate()
    with pytest.raises(StoreUnreachableError, match="nowhere"):
        store.get_jobs(["0" * 64])
    store.close()


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """The path of a folder is refused like any other that cannot be opened."""
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreUnreachableError, match="cannot be opened"):
        store.check_schema()
    store.close()


def test_a_file_of_another_kind_is_unsuitable(path: Path) -> None:
    """A file that is no database is named as such and left as it is."""
    text = "no database " * 1000
    path.write_text(text)
    store = SqliteStore(path)
    with pytest.raises(StoreUnsuitableError, match="no SQLite database"):
        store.check_schema()
    with pytest.raises(StoreUnsuitableError, match="no SQLite database"):
        store.migrate()
    assert path.read_text() == text
    store.close()


def test_a_read_only_file_is_unsuitable() -> None:
    """Who may only read the file is told so by the first write."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stageflow.db"
        with closing(SqliteStore(path)) as store:
            store.migrate()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        with _as_a_common_user(), closing(SqliteStore(path)) as reader, pytest.raises(StoreUnsuitableError, match="read-only"):
            reader.create_jobs([new_job()])
        Path(folder).chmod(0o755)


def test_a_folder_that_may_not_be_searched_is_unreachable() -> None:
    """Denied access is not mistaken for a file that is not there."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stageflow.db"
        with closing(SqliteStore(path)) as store:
            store.migrate()
        Path(folder).chmod(0o000)
        with (
            _as_a_common_user(),
            closing(SqliteStore(path)) as reader,
            pytest.raises(StoreUnreachableError, match="cannot be opened"),
        ):
            reader.check_schema()
        Path(folder).chmod(0o755)


@contextmanager
def _as_a_common_user() -> Iterator[None]:
    """Let permissions count for the superuser, too."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_locked_file_is_unreachable_after_a_while(path: Path, store: SqliteStore) -> None:
    """A process that never lets go of the file does not hang the others."""
    assert store.verify().up_to_date
    hasty = SqliteStore(path, busy_seconds=0.05)
    with _raw(path) as raw:
        raw.execute("begin immediate")
        with pytest.raises(StoreUnreachableError, match=r"locked by another process for 0\.05 s"):
            hasty.create_jobs([new_job()])
    assert hasty.create_jobs([new_job()]).created == [True]
    hasty.close()


def test_a_busy_file_is_tried_again(path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another process holds for a moment is waited for."""
    with _raw(path) as raw:
        raw.execute("begin immediate")
        monkeypatch.setattr("time.sleep", lambda _: raw.execute("commit"))
        assert store.create_jobs([new_job()]).created == [True]
        assert not raw.in_transaction


def test_reading_needs_no_lock(path: Path, store: SqliteStore) -> None:
    """Readers see the last commit while another process writes."""
    job = new_job()
    store.create_jobs([job])
    with _raw(path) as raw:
        raw.execute("begin immediate")
        raw.execute("update stageflow_jobs set priority = 7")
        assert store.get_jobs([job.job_id])[0].priority == 0
        raw.execute("commit")
    assert store.get_jobs([job.job_id])[0].priority == 7


def test_every_commit_is_durable(store: SqliteStore) -> None:
    """Connections write ahead, flush at each commit, and check foreign keys."""
    with store._database.transaction() as tx:  # noqa: SLF001  settings of a connection are seen on it only
        settings = [tx.row(f"pragma {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert settings == [("wal",), (2,), (1,)]


def test_an_error_leaves_nothing_half(store: SqliteStore) -> None:
    """What a transaction wrote before an error is gone after it, and the store works on."""
    with pytest.raises(StoreStateError, match="refused a row"):
        _break_off(store)
    assert _newest_token(store) == 0
    assert store.create_jobs([new_job()]).created == [True]


def _break_off(store: SqliteStore) -> None:
    with store._database.transaction() as tx:  # noqa: SLF001  no method of the port fails half way
        tx.run("update stageflow_counters set lease_token = 99")
        tx.run("insert into stageflow_counters (only_row) values (2)")


def _newest_token(store: SqliteStore) -> int:
    with store._database.reading() as tx:  # noqa: SLF001  the counter is nobody else's business
        row = tx.row("select lease_token from stageflow_counters")
    assert row is not None
    return int(row[0])


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    """Use after ``close`` is an error with its reason, and closing twice is none."""
    store.close()
    store.close()
    with pytest.raises(StoreUnreachableError, match="was closed"):
        store.create_jobs([new_job()])
    with pytest.raises(StoreUnreachableError, match="was closed"):
        store.get_jobs([])


def test_an_application_connection_must_be_sqlite(store: SqliteStore) -> None:
    """Another driver's connection is refused before anything is written."""
    with pytest.raises(StoreUnsuitableError, match=r"must be a sqlite3\.Connection"):
        store.create_jobs([new_job()], connection=object())


def test_a_refused_batch_leaves_the_application_transaction_open(path: Path, store: SqliteStore) -> None:
    """What the application wrote before a refusal is still its own to commit."""
    with _raw(path) as raw:
        raw.execute("create table mine (id integer)")
        raw.execute("begin immediate")
        raw.execute("insert into mine values (1)")
        rivals = [new_job(name).model_copy(update={"idempotency_key": "one"}) for name in ("first", "second")]
        with pytest.raises(IdempotencyConflictError):
            store.create_jobs(rivals, connection=raw)
        raw.execute("commit")
        assert raw.execute("select count(*) from mine").fetchone() == (1,)
        assert raw.execute("select count(*) from stageflow_jobs").fetchone() == (0,)


def test_a_schema_from_the_future_is_left_alone(path: Path, store: SqliteStore) -> None:
    """Code that is too old refuses to work and to migrate, and says what to do."""
    with _raw(path) as raw:
        raw.execute(
            "insert into stageflow_migrations (version, name, checksum, applied_at) values (?, 'next.sql', '', 0)",
            (SCHEMA_VERSION + 1,),
        )
    with pytest.raises(SchemaVersionError, match="install the stageflow that made it, or a newer one"):
        store.check_schema()
    with pytest.raises(SchemaVersionError, match="install the stageflow"):
        store.migrate()
    assert store.verify().state is SchemaState.NEWER


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        ("drop index stageflow_ranges_ready", "index stageflow_ranges_ready is missing"),
        ("alter table stageflow_jobs add column mine text", "column stageflow_jobs.mine is none of stageflow's"),
        ("alter table stageflow_workers drop column host", "column stageflow_workers.host is missing"),
        ("drop view stageflow_work", "view stageflow_work is missing"),
        ("create index mine on stageflow_jobs (run)", "index mine is none of stageflow's"),
        (
            "create trigger mine after insert on stageflow_jobs begin select 1; end",
            "trigger mine is none of stageflow's",
        ),
        ("drop table stageflow_dead_letters", "table stageflow_dead_letters is missing"),
        (
            "update stageflow_migrations set checksum = '' where version = 1",
            "migration 0001_tables.sql was applied with another text",
        ),
    ],
)
def test_verify_names_the_drift(path: Path, store: SqliteStore, change: str, drift: str) -> None:
    """Each difference is one sentence that names it, and there is no other."""
    assert store.verify().up_to_date
    with _raw(path) as raw:
        raw.execute(change)
    report = store.verify()
    assert not report.up_to_date
    assert [sentence.startswith(drift) for sentence in report.drifts] == [True]


def test_verify_names_changed_columns_and_constraints(path: Path, store: SqliteStore) -> None:
    """A column of another type, and a table that lost a check, are told apart."""
    with _raw(path) as raw:
        for table, old, new in (
            ("stageflow_workers", "slots integer not null", "slots text not null"),
            ("stageflow_results", " or status = 'skipped'", ""),
        ):
            sql = raw.execute("select sql from sqlite_schema where name = ?", (table,)).fetchone()[0]
            raw.execute(f"drop table {table}")
            raw.execute(sql.replace(old, new))
        raw.execute("create index stageflow_results_failed on stageflow_results (stage_id, task_index) where status = 'failed'")
    assert [sentence.partition(";")[0] for sentence in store.verify().drifts] == [
        "column stageflow_workers.slots is `text not null` and should be `integer not null`",
        "the constraints of table stageflow_results differ from what the migrations make",
    ]


def test_an_application_keeps_its_own_tables(path: Path, store: SqliteStore) -> None:
    """Tables of others in the same file are no drift."""
    with _raw(path) as raw:
        raw.execute("create table orders (id integer primary key, note text default 'x')")
        raw.execute("create index orders_note on orders (note)")
    assert store.verify().up_to_date


@pytest.mark.parametrize(
    ("constraint", "values"),
    [
        ("jobs_status", JobStatus),
        ("stages_status", StageStatus),
        ("results_status", TERMINAL_TASK_STATUSES),
        ("ranges_kind", WorkKind),
        ("dead_letters_state", DeadLetterState),
    ],
)
def test_checks_allow_exactly_the_values_of_the_contracts(
    path: Path,
    store: SqliteStore,
    constraint: str,
    values: type[StrEnum] | frozenset[StrEnum],
) -> None:
    """A status that code knows can be stored, and no other can."""
    assert store.verify().up_to_date
    with _raw(path) as raw:
        text = " ".join(row[0] for row in raw.execute("select sql from sqlite_schema where type = 'table' and sql is not null"))
    check = re.search(rf"constraint {constraint} check \(([^)]*)\)", text)
    assert check is not None
    assert set(re.findall(r"\w+ = '(\w+)'(?: or|$)", check[1])) == {str(value) for value in values}


def test_a_claim_stays_on_its_indexes(path: Path, store: SqliteStore) -> None:
    """No claim scans ranges, whatever others there are."""
    assert store.verify().up_to_date
    with _raw(path) as raw:
        plans = [
            row[3]
            for sql, values in ((_HEADS, ("[]", 1)), (_NEXT_DUE, ("[]",)), (_OPEN_DUE, ("", 0)))
            for row in raw.execute(f"explain query plan {sql}", values)
        ]
    assert [line for line in plans if line.startswith("SCAN") and "VIRTUAL TABLE" not in line] == []
    assert [line for line in plans if "TEMP B-TREE" in line] == []


def test_the_view_of_work_has_the_columns_that_code_names(path: Path, store: SqliteStore) -> None:
    """Rows of the view become ``Work`` by position."""
    assert store.verify().up_to_date
    with _raw(path) as raw:
        columns = [row[0] for row in raw.execute("select * from stageflow_work").description]
    assert columns == list(Work._fields)


def test_a_range_is_split_evenly() -> None:
    """Parts cover the range, none is empty, and their widths differ by at most one."""
    for width in range(1, 40):
        for parts in range(1, 12):
            ranges = split_evenly(5, 5 + width, parts)
            assert [index for first, last in ranges for index in range(first, last)] == list(range(5, 5 + width))
            widths = [last - first for first, last in ranges]
            assert max(widths) - min(widths) <= 1
            assert len(ranges) == min(parts, width)


def test_retries_of_one_delay_go_back_together() -> None:
    """Neighbours with the same delay are one range; a gap or another delay begins the next."""
    retries = [
        Retry(task_index=index, delay_seconds=delay, error_details="e") for index, delay in ((1, 2), (2, 2), (3, 5), (5, 5))
    ]
    assert [(first, last) for first, last, _ in group_retries(retries)] == [(1, 3), (3, 4), (5, 6)]


@pytest.mark.parametrize(
    ("fail_fast", "rate", "planned", "failed", "halts"),
    [
        (True, None, False, 1, True),
        (True, None, True, 0, False),
        (False, None, True, 10, False),
        (False, 80.0, True, 2, False),
        (False, 80.0, True, 3, True),
        (False, 80.0, False, 3, False),
    ],
)
def test_a_stage_halts_when_its_policy_gives_up(
    *, fail_fast: bool, rate: float | None, planned: bool, failed: int, halts: bool
) -> None:
    """A first failure where none may be, or a rate out of reach once the width is known."""
    assert (
        should_halt(
            fail_fast=fail_fast,
            minimum_success_rate=rate,
            planned=planned,
            task_count=10,
            failed=failed,
            unsuccessful=failed,
        )
        is halts
    )


def test_moving_the_clock_moves_what_follows(store: SqliteStore) -> None:
    """Tests need not wait: the store's time jumps by what they say, to the microsecond."""
    first = store.now()
    store.move_clock(3600.000001)
    assert 3600.000001 <= (store.now() - first).total_seconds() < 3660
