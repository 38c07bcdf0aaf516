-- The tables of stageflow, schema version 1.
--
-- Lock order of every function: ranges by id, stages by id, jobs by id. A pause or resume takes the job's row alone, lets claims
-- and completions see it, and then waits for no range (skip locked).
-- No foreign keys: the functions are the only writers and hold the rows above; a check per row costs a fifth of a bulk
-- submission, and its share lock would meet all finishers on the stage's row.
-- A session keeps its plans, also those it made while the tables were small (two rows, any index as good as another). So a
-- statement is written such that only the right index applies: one table at a time (joins are lateral, fenced by offset 0), by
-- its key, no other index's order, and no word of a partial index's condition beside a key (a lease is found by its token, not
-- by its state).
-- JSON is kept as text: it is validated by its contract when read, compared byte by byte, and never decoded by a driver.

create table stageflow.jobs (
    job_id text primary key,
    job_type text not null,
    workflow_version integer not null check (workflow_version >= 1),
    status text not null,
    run integer not null default 1 check (run >= 1),
    stage integer not null default 1 check (stage >= 1),
    total_stages integer not null check (total_stages >= 1),
    parameters text not null,
    metadata text not null default '{}',
    result_data text,
    error_details text,
    idempotency_key text not null default '',
    priority integer not null default 0,
    not_before timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- 64 lower-case hexadecimal digits; a regular expression would cost as much as the rest of the insert.
    constraint jobs_job_id check (octet_length(job_id) = 64 and encode(decode(job_id, 'hex'), 'hex') = job_id),
    constraint jobs_status check (
        status in ('queued', 'processing', 'paused', 'completed', 'completed_with_errors', 'failed', 'cancelled')),
    constraint jobs_stage check (stage <= total_stages)
);
create unique index jobs_idempotency_key on stageflow.jobs (job_type, idempotency_key) where idempotency_key <> '';
create index jobs_created on stageflow.jobs (created_at desc, job_id desc);
create index jobs_status on stageflow.jobs (status, created_at desc);
-- For recovery: what was locked while its job ended is closed afterwards.
create index jobs_ended on stageflow.jobs (updated_at) where status in ('failed', 'cancelled');

create table stageflow.stages (
    stage_id bigint generated always as identity primary key,
    job_id text not null,
    run integer not null check (run >= 1),
    stage_number integer not null check (stage_number >= 1),
    generation integer not null default 1 check (generation >= 1),
    name text not null,
    task_type text not null,
    status text not null,
    task_count integer not null default 0 check (task_count >= 0),
    remaining integer not null default 0 check (remaining >= 0),
    successful_tasks integer not null default 0,
    failed_tasks integer not null default 0,
    skipped_tasks integer not null default 0,
    cancelled_tasks integer not null default 0,
    range_count integer not null default 0,
    planned boolean not null default false,
    halted boolean not null default false,
    plan_digest text not null default '',
    fail_fast boolean not null default false,
    minimum_success_rate double precision,
    group_first integer not null,
    group_last integer not null,
    stored_result text,
    -- Of a closed stage that a resubmission took over from a former run: the stage that has its tasks, results and partials.
    taken_from bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint stages_of_a_run unique (job_id, run, stage_number),
    constraint stages_status check (
        status in ('pending', 'planning', 'processing', 'completed', 'completed_with_errors', 'failed', 'skipped', 'cancelled')),
    constraint stages_counters check (
        remaining = task_count - successful_tasks - failed_tasks - skipped_tasks - cancelled_tasks)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

-- For recovery: what was locked while its stage halted is closed afterwards.
create index stages_halted on stageflow.stages (stage_id) where halted and status in ('pending', 'planning', 'processing');

create table stageflow.tasks (
    stage_id bigint not null,
    task_index integer not null,
    parameters text not null,
    key text,
    primary key (stage_id, task_index)
);
create unique index tasks_key on stageflow.tasks (stage_id, key) where key is not null;

create table stageflow.results (
    stage_id bigint not null,
    task_index integer not null,
    generation integer not null,
    attempt integer not null,
    status text not null,
    result text,
    error_details text,
    seconds double precision not null,
    token bigint not null,
    completed_at timestamptz not null,
    primary key (stage_id, task_index, generation),
    constraint results_status check (status in ('completed', 'failed', 'skipped', 'cancelled'))
);
create index results_failed on stageflow.results (stage_id, task_index) where status = 'failed';

-- What a report's completed results [first, last) are together, where a stage declares how to combine them. Written with these
-- results; no two of a stage and generation overlap.
create table stageflow.partials (
    stage_id bigint not null,
    generation integer not null,
    first integer not null,
    last integer not null,
    successful_tasks integer not null,
    value text not null,
    primary key (stage_id, generation, first),
    constraint partials_width check (successful_tasks between 1 and last - first)
);

-- What a running task wants its next attempt to know; deleted with the write of its result.
create table stageflow.checkpoints (
    stage_id bigint not null,
    task_index integer not null,
    generation integer not null,
    attempt integer not null,
    value text not null,
    saved_at timestamptz not null,
    primary key (stage_id, task_index)
);

-- Work: tasks [first, last) of a stage, or the planning or advancing of it (kind). The only table whose rows move.
-- For each stage and generation, results and ranges of kind task cover [0, task_count) exactly once. A range that was skipped or
-- cancelled stays as one closed row and needs no results.
create table stageflow.ranges (
    range_id bigint generated always as identity primary key,
    stage_id bigint not null,
    kind text not null check (kind in ('task', 'plan', 'advance')),
    work_type text not null,
    generation integer not null default 1,
    first integer not null,
    last integer not null,
    attempt integer not null default 1,
    state text not null,
    priority integer not null default 0,
    turn bigint not null default 0,
    stride integer not null default 1,
    suspect boolean not null default false,
    deaths integer not null default 0,
    not_before timestamptz,
    token bigint,
    worker_id text,
    lease_expires_at timestamptz,
    renewed_at timestamptz,
    beat bigint not null default 0,
    current_index integer,
    current_since timestamptz,
    error_details text,
    checkpointed boolean not null default false,
    announced_at timestamptz,
    created_at timestamptz not null,
    closed_at timestamptz,
    constraint ranges_state check (state in ('ready', 'leased', 'waiting', 'held', 'skipped', 'cancelled')),
    constraint ranges_width check (last > first),
    constraint ranges_lease check ((state = 'leased') = (token is not null))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
create index ranges_ready on stageflow.ranges (work_type, (-priority), turn, range_id) where state = 'ready';
create index ranges_leased on stageflow.ranges (lease_expires_at) where state = 'leased';
create index ranges_waiting on stageflow.ranges (work_type, not_before) where state = 'waiting';
create index ranges_held on stageflow.ranges (stage_id) where state = 'held';
create index ranges_of_a_stage on stageflow.ranges (stage_id, first);
create index ranges_announced on stageflow.ranges (announced_at nulls first, range_id) where state = 'ready';
-- A stage is planned or advanced by one worker at a time.
create unique index ranges_control on stageflow.ranges (stage_id) where kind <> 'task';

-- While somebody holds an old snapshot nothing can be vacuumed, and claims would walk past all that ever was ready. Of the work
-- type's ranges with this priority (urgency is its negative) and turn, those up to range_id are passed over until valid_until: a
-- claim that had to read many dead entries says so here. Returned work among them is seen a little later; nothing else is.
create table stageflow.horizons (
    work_type text primary key,
    urgency integer not null,
    turn bigint not null,
    range_id bigint not null,
    valid_until timestamptz not null
);

-- Fencing tokens: each lease has a larger one than every lease before.
create sequence stageflow.lease_token as bigint;

create table stageflow.workers (
    worker_id text primary key,
    host text not null,
    pid integer not null,
    slots integer not null check (slots >= 1),
    work_types text[] not null,
    started_at timestamptz not null,
    seen_at timestamptz not null
);

create table stageflow.dead_letters (
    letter_id bigint generated always as identity primary key,
    queue text not null,
    message_id text not null,
    body bytea not null,
    reason text not null,
    delivery_count integer not null,
    state text not null default 'open' check (state in ('open', 'requeued', 'discarded')),
    created_at timestamptz not null,
    constraint dead_letters_message unique (queue, message_id)
);
