-- Limits of task types and jobs, pauses of task types.
--
-- A scope is a task type over all versions of its job type (`job_type/task_type`) or a job (its id). Unlimited ones have no row.
-- Slots stand between ranges and stages in the lock order, and before them the row of the scope; claims never wait for either
-- (skip locked), and who changes a limit holds nothing else that claims wait for.

create table stageflow.limits (
    scope text primary key,
    declared_max_running integer,
    declared_max_per_second double precision,
    -- An operator's word is what holds, whatever is declared, until it is taken back.
    overridden boolean not null default false,
    max_running integer check (max_running >= 1),
    max_per_second double precision check (max_per_second > 0),
    paused_at timestamptz,
    -- When the starts that the rate had granted were all used: since then new ones grow.
    spent_at timestamptz not null default to_timestamp(0)
) with (fillfactor = 50);

-- One row for each task that may run at once, with the lease that it was given to: a slot is free when that lease is gone, so
-- there is no counter that could drift. Numbers above the limit are leases from before it was lowered.
create table stageflow.slots (
    scope text not null,
    number integer not null,
    range_id bigint,
    token bigint,
    primary key (scope, number)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
