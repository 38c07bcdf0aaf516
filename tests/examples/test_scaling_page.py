"""The statement of docs/scaling.md that deletes what is old."""

from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from stageflow.backends.postgres import PostgresStore
from stageflow.testing.conformance.builders import cancel, create, finish, new_job, run_all, start

PAGE: Final = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_old_completed_jobs_are_deleted_with_all_that_is_theirs(postgres_dsn: str) -> None:
    """Younger, unfinished and cancelled jobs stay whole."""
    store = PostgresStore(postgres_dsn)
    store.migrate()
    old, young, cancelled, unfinished = (new_job(name, job_type=name) for name in ("old", "young", "cancelled", "unfinished"))
    for job in (old, young):
        start(store, job, 3)
        finish(store, run_all(store, job))
    start(store, cancelled, 3)
    cancel(store, cancelled)
    create(store, unfinished)
    (statement,) = PAGE.read_text(encoding="utf-8").split("```postgresql\n")[1:]
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(
            "update stageflow.jobs set updated_at = now() - interval '31 days' where job_id <> %s", (young.job_id,)
        )
        connection.execute(statement.split("```")[0].encode())
        left = connection.execute("select job_type from stageflow.jobs order by job_type").fetchall()
        assert [job_type for (job_type,) in left] == ["cancelled", "unfinished", "young"]
        for table, rows in {"stages": 3, "tasks": 6, "results": 3, "ranges": 2}.items():
            counted = connection.execute(sql.SQL("select count(*) from stageflow.{}").format(sql.Identifier(table)))
            assert counted.fetchall() == [(rows,)]
        events = connection.execute("select 1 from stageflow.events where job_id = %s", (old.job_id,)).fetchall()
        assert events == []
    store.close()
