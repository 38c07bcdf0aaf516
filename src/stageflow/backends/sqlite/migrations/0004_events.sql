-- What happened to a job; schema version 4.

-- Append-only, written in the transaction of the change that it tells. Nothing is written for a task that succeeds or is claimed,
-- nor for the submission: created_at of the job tells that one. No row is ever changed, and a purge deletes them with their job.
create table stageflow_events (
    event_id integer primary key autoincrement not null,
    job_id text not null,
    run integer not null,
    stage_number integer,
    generation integer,
    kind text not null,
    status text,
    -- The tasks concerned lie within [first, last), and are so many: not all between need be among them.
    first integer,
    last integer,
    tasks integer,
    attempt integer,
    worker_id text,
    detail text,
    at integer not null
) strict;
create index stageflow_events_of_a_job on stageflow_events (job_id, event_id);
