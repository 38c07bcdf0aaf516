"""The barrier that users of a plain queue have to write themselves: tables of results and of what remains.

One statement records a batch of results, each once, and counts them off; whoever takes a stage to zero goes on in the same
transaction. The placeholders are those of PostgreSQL (``$1``), which psycopg's raw cursors and asyncpg both take.
"""

from typing import Final

TABLES: Final = """
create table w1_stages (job int not null, stage int not null, remaining int not null, primary key (job, stage));
create table w1_results (
    job int not null, stage int not null, task_index int not null, value bigint not null, primary key (job, stage, task_index));
create table w1_totals (job int primary key, total bigint not null);
"""

OPEN_STAGE: Final = "insert into w1_stages (job, stage, remaining) values ($1, $2, $3)"

RECORD: Final = """
with fresh as (
    insert into w1_results (job, stage, task_index, value)
    select * from unnest($1::int[], $2::int[], $3::int[], $4::bigint[])
    on conflict do nothing
    returning job, stage
), counted as (
    select job, stage, count(*)::int as done from fresh group by job, stage
)
update w1_stages s set remaining = s.remaining - c.done from counted c
where s.job = c.job and s.stage = c.stage
returning s.job, s.stage, s.remaining
"""

RESULTS: Final = "select task_index, value from w1_results where job = $1 and stage = 1 order by task_index"

FINISH: Final = """
with added as (
    insert into w1_totals (job, total)
    select $1::int, sum(value) from w1_results where job = $1::int and stage = 2
    returning job
)
select pg_notify('w1_done', job::text) from added
"""

TOTAL: Final = "select total from w1_totals where job = $1"

Done = tuple[int, int, int, int]
"""Job, stage, task index and value of a task that has run."""


def columns(done: list[Done]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Return the four arrays of :data:`RECORD`."""
    return [row[0] for row in done], [row[1] for row in done], [row[2] for row in done], [row[3] for row in done]
