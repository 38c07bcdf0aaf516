-- The tables of stageflow in SQLite, schema version 1.
--
-- Times are microseconds since the epoch in UTC, lists and documents are JSON text, truth values are 0 and 1. JSON is validated
-- by its contract when it is read, compared byte by byte, and never decoded by SQL. The prefix keeps these tables apart from
-- those of an application that shares the file. Checks are chains of `or`: for a list, SQLite builds an index anew for every row
-- that is written, which made recording a result half as fast again.

create table stageflow_jobs (
    job_id text primary key not null check (length(job_id) = 64 and job_id not glob '*[^0-9a-f]*'),
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
    not_before integer,
    created_at integer not null,
    updated_at integer not null,
    constraint jobs_status check (
        status = 'queued' or status = 'processing' or status = 'paused' or status = 'completed' or
        status = 'completed_with_errors' or status = 'failed' or status = 'cancelled'),
    constraint jobs_stage check (stage <= total_stages)
) strict;
create unique index stageflow_jobs_idempotency_key on stageflow_jobs (job_type, idempotency_key) where idempotency_key <> '';
create index stageflow_jobs_created on stageflow_jobs (created_at desc, job_id desc);
create index stageflow_jobs_status on stageflow_jobs (status, created_at desc, job_id desc);

create table stageflow_stages (
    stage_id integer primary key autoincrement not null,
    job_id text not null references stageflow_jobs (job_id),
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
    planned integer not null default 0 check (planned in (0, 1)),
    halted integer not null default 0 check (halted in (0, 1)),
    plan_digest text not null default '',
    fail_fast integer not null default 0 check (fail_fast in (0, 1)),
    minimum_success_rate real,
    group_first integer not null,
    group_last integer not null,
    stored_result text,
    -- Of a closed stage that a resubmission took over from a former run: the stage that has its tasks, results and partials.
    taken_from integer,
    created_at integer not null,
    updated_at integer not null,
    constraint stages_of_a_run unique (job_id, run, stage_number),
    constraint stages_status check (
        status = 'pending' or status = 'planning' or status = 'processing' or status = 'completed' or
        status = 'completed_with_errors' or status = 'failed' or status = 'skipped' or status = 'cancelled'),
    constraint stages_counters check (
        remaining = task_count - successful_tasks - failed_tasks - skipped_tasks - cancelled_tasks)
) strict;
create index stageflow_stages_halted on stageflow_stages (stage_id) where halted = 1 and remaining > 0;

create table stageflow_tasks (
    stage_id integer not null,
    task_index integer not null,
    parameters text not null,
    key text,
    primary key (stage_id, task_index)
) strict, without rowid;
create unique index stageflow_tasks_key on stageflow_tasks (stage_id, key) where key is not null;

create table stageflow_results (
    stage_id integer not null,
    task_index integer not null,
    generation integer not null,
    attempt integer not null,
    status text not null,
    result text,
    error_details text,
    seconds real not null,
    token integer not null,
    completed_at integer not null,
    primary key (stage_id, task_index, generation),
    constraint results_status check (
        status = 'completed' or status = 'failed' or status = 'skipped' or status = 'cancelled')
) strict, without rowid;
create index stageflow_results_failed on stageflow_results (stage_id, task_index) where status = 'failed';

-- What a report's completed results [first, last) are together, where a stage declares how to combine them. Written with these
-- results; no two of a stage and generation overlap.
create table stageflow_partials (
    stage_id integer not null,
    generation integer not null,
    first integer not null,
    last integer not null,
    successful_tasks integer not null,
    value text not null,
    primary key (stage_id, generation, first),
    constraint partials_width check (successful_tasks >= 1 and successful_tasks <= last - first)
) strict, without rowid;

-- What a running task wants its next attempt to know; deleted with the write of its result.
create table stageflow_checkpoints (
    stage_id integer not null,
    task_index integer not null,
    generation integer not null,
    attempt integer not null,
    value text not null,
    saved_at integer not null,
    primary key (stage_id, task_index)
) strict, without rowid;

-- Work: tasks [first, last) of a stage, or the planning or advancing of it (kind). The only table whose rows move.
-- For each stage and generation, results and ranges of kind task cover [0, task_count) exactly once. A range that was skipped
-- or cancelled stays as one closed row and needs no results. Ids are never used again, since outsiders remember them.
create table stageflow_ranges (
    range_id integer primary key autoincrement not null,
    stage_id integer not null references stageflow_stages (stage_id),
    kind text not null,
    work_type text not null,
    generation integer not null default 1,
    first integer not null,
    last integer not null,
    attempt integer not null default 1,
    state text not null,
    priority integer not null default 0,
    turn integer not null default 0,
    stride integer not null default 1,
    suspect integer not null default 0 check (suspect in (0, 1)),
    deaths integer not null default 0,
    not_before integer,
    token integer,
    worker_id text,
    lease_expires_at integer,
    renewed_at integer,
    beat integer not null default 0,
    current_index integer,
    current_since integer,
    error_details text,
    checkpointed integer not null default 0 check (checkpointed in (0, 1)),
    announced_at integer,
    created_at integer not null,
    closed_at integer,
    constraint ranges_kind check (kind = 'task' or kind = 'plan' or kind = 'advance'),
    constraint ranges_state check (
        state = 'ready' or state = 'leased' or state = 'waiting' or state = 'held' or state = 'skipped' or
        state = 'cancelled'),
    constraint ranges_width check (last > first),
    constraint ranges_lease check ((state = 'leased') = (token is not null))
) strict;
create index stageflow_ranges_ready on stageflow_ranges (work_type, priority desc, turn, range_id) where state = 'ready';
create index stageflow_ranges_leased on stageflow_ranges (lease_expires_at) where state = 'leased';
create index stageflow_ranges_waiting on stageflow_ranges (not_before) where state = 'waiting';
create index stageflow_ranges_waiting_of_a_type on stageflow_ranges (work_type, not_before) where state = 'waiting';
create index stageflow_ranges_of_a_stage on stageflow_ranges (stage_id, first);
create index stageflow_ranges_announced on stageflow_ranges (announced_at, range_id) where state = 'ready';
create unique index stageflow_ranges_control on stageflow_ranges (stage_id) where kind <> 'task';

-- A range with what a claim must know of its stage and job. For the work of a run that a resubmission put behind the job is
-- cancelled, whatever it does now; so no former run is ever worked on, and none touches the present one.
create view stageflow_work as
select
    r.range_id, r.stage_id, r.kind, r.work_type, r.generation, r.first, r.last, r.attempt, r.state, r.priority, r.turn, r.stride,
    r.suspect, r.deaths, r.not_before, r.token, r.worker_id, r.beat, r.error_details, r.checkpointed,
    s.stage_number, s.task_type, s.status as stage_status, s.halted, s.planned,
    j.job_id, j.job_type, j.workflow_version, s.run,
    case when s.run = j.run then j.status else 'cancelled' end as job_status
from stageflow_ranges r
join stageflow_stages s on s.stage_id = r.stage_id
join stageflow_jobs j on j.job_id = s.job_id;

-- One row. Each lease has a larger token than every lease before; work_signal rises whenever work became ready.
create table stageflow_counters (
    only_row integer primary key not null check (only_row = 1),
    lease_token integer not null default 0,
    work_signal integer not null default 0
) strict;
insert into stageflow_counters (only_row) values (1);

create table stageflow_workers (
    worker_id text primary key not null,
    host text not null,
    pid integer not null,
    slots integer not null check (slots >= 1),
    work_types text not null,
    started_at integer not null,
    seen_at integer not null
) strict;

create table stageflow_dead_letters (
    letter_id integer primary key autoincrement not null,
    queue text not null,
    message_id text not null,
    body blob not null,
    reason text not null,
    delivery_count integer not null,
    state text not null default 'open',
    created_at integer not null,
    constraint dead_letters_state check (state = 'open' or state = 'requeued' or state = 'discarded'),
    constraint dead_letters_message unique (queue, message_id)
) strict;
