-- Deadlines of jobs and stages, and schedules; schema version 3.

-- deadline: when the job's present run ends as failed, whatever is left of it. timeout_seconds: from the start of a run on, so its
-- end joins the deadline when the run starts.
alter table stageflow.jobs add column deadline timestamptz, add column timeout_seconds double precision;
-- When the stage's own time is over; set when its planning begins.
alter table stageflow.stages add column deadline timestamptz;
-- An expression, so that no statement about a status uses these, and only what is open and has a deadline is in them.
create index jobs_due on stageflow.jobs ((case when status in ('queued', 'processing', 'paused') then deadline end))
    where (case when status in ('queued', 'processing', 'paused') then deadline end) is not null;
create index stages_due on stageflow.stages ((case when status in ('pending', 'planning', 'processing') then deadline end))
    where (case when status in ('pending', 'planning', 'processing') then deadline end) is not null;

-- What creates jobs by a cron expression. next_fire_at is what a firing compares and sets, so that each happens once; it is null
-- where the schedule has failed or never fires again.
create table stageflow.schedules (
    name text primary key,
    job_type text not null,
    parameters text not null,
    cron text not null,
    time_zone text not null,
    catch_up text not null check (catch_up in ('skip', 'one', 'all')),
    priority integer not null,
    timeout_seconds double precision,
    state text not null default 'active' check (state in ('active', 'paused', 'failed')),
    next_fire_at timestamptz,
    last_fire_at timestamptz,
    last_job_id text,
    error_details text,
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index schedules_due on stageflow.schedules (next_fire_at) where state = 'active' and next_fire_at is not null;
