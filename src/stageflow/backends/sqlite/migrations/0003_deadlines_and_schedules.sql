-- Deadlines of jobs and stages, and schedules; schema version 3.

-- deadline: when the job's present run ends as failed, whatever is left of it. timeout_seconds: from the start of a run on, so its
-- end joins the deadline when the run starts.
alter table stageflow_jobs add column deadline integer;
alter table stageflow_jobs add column timeout_seconds real;
-- When the stage's own time is over; set when its planning begins.
alter table stageflow_stages add column deadline integer;
-- Only what is open and has a deadline is in these.
create index stageflow_jobs_due on stageflow_jobs (deadline)
    where deadline is not null and (status = 'queued' or status = 'processing' or status = 'paused');
create index stageflow_stages_due on stageflow_stages (deadline)
    where deadline is not null and (status = 'pending' or status = 'planning' or status = 'processing');

-- What creates jobs by a cron expression. next_fire_at is what a firing compares and sets, so that each happens once; it is null
-- where the schedule has failed or never fires again.
create table stageflow_schedules (
    name text primary key not null,
    job_type text not null,
    parameters text not null,
    cron text not null,
    time_zone text not null,
    catch_up text not null,
    priority integer not null,
    timeout_seconds real,
    state text not null default 'active',
    next_fire_at integer,
    last_fire_at integer,
    last_job_id text,
    error_details text,
    created_at integer not null,
    updated_at integer not null,
    constraint schedules_catch_up check (catch_up = 'skip' or catch_up = 'one' or catch_up = 'all'),
    constraint schedules_state check (state = 'active' or state = 'paused' or state = 'failed')
) strict;
create index stageflow_schedules_due on stageflow_schedules (next_fire_at) where state = 'active' and next_fire_at is not null;
