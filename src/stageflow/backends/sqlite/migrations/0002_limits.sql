-- Limits of task types and jobs, pauses of task types. A scope is a task type over all versions of its job type
-- (`job_type/task_type`) or a job (its id); unlimited ones have no row. How many run is counted from the leases there are, under
-- the write lock, so there is no counter that could drift.
create table stageflow_limits (
    scope text primary key not null,
    declared_max_running integer,
    declared_max_per_second real,
    -- An operator's word is what holds, whatever is declared, until it is taken back.
    overridden integer not null default 0,
    max_running integer,
    max_per_second real,
    paused_at integer,
    -- When the starts that the rate had granted were all used: since then new ones grow.
    spent_at integer not null default 0,
    constraint limits_running check (max_running >= 1),
    constraint limits_rate check (max_per_second > 0)
) strict;
