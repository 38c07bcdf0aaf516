-- What happened to a job; schema version 4.

-- Append-only, written in the transaction of the change that it tells, by the functions alone. Nothing is written for a task that
-- succeeds or is claimed, nor for the submission: jobs.created_at tells that one. No row is ever changed, and a purge deletes them
-- with their job.
create table stageflow.events (
    event_id bigint generated always as identity primary key,
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
    at timestamptz not null
);
create index events_of_a_job on stageflow.events (job_id, event_id);

-- One check a table, by a function. PostgreSQL reads each check of a table again from its stored text, whenever a statement
-- writes to it, and these three are written by nearly every statement of a small job: that was a twelfth of its server time.
create function stageflow.is_sound_job(
    p_job_id text, p_workflow_version integer, p_status text, p_run integer, p_stage integer, p_total_stages integer)
returns boolean
language plpgsql immutable parallel safe as $$
begin
    -- Ids: 64 lower-case hexadecimal digits.
    return p_workflow_version >= 1 and p_run >= 1 and p_stage between 1 and p_total_stages
        and p_status in ('queued', 'processing', 'paused', 'completed', 'completed_with_errors', 'failed', 'cancelled')
        and octet_length(p_job_id) = 64 and encode(decode(p_job_id, 'hex'), 'hex') = p_job_id;
end
$$;
create function stageflow.is_sound_stage(
    p_run integer, p_stage_number integer, p_generation integer, p_status text, p_task_count integer, p_remaining integer,
    p_ended integer)
returns boolean
language plpgsql immutable parallel safe as $$
begin
    return p_run >= 1 and p_stage_number >= 1 and p_generation >= 1
        and p_status in (
            'pending', 'planning', 'processing', 'completed', 'completed_with_errors', 'failed', 'skipped', 'cancelled')
        and p_remaining >= 0 and p_remaining = p_task_count - p_ended;
end
$$;
create function stageflow.is_sound_range(p_kind text, p_first integer, p_last integer, p_state text, p_token bigint)
returns boolean
language plpgsql immutable parallel safe as $$
begin
    return p_kind in ('task', 'plan', 'advance') and p_last > p_first
        and p_state in ('ready', 'leased', 'waiting', 'held', 'skipped', 'cancelled')
        and (p_state = 'leased') = (p_token is not null);
end
$$;
alter table stageflow.jobs
    drop constraint jobs_workflow_version_check, drop constraint jobs_run_check, drop constraint jobs_stage_check,
    drop constraint jobs_total_stages_check, drop constraint jobs_job_id, drop constraint jobs_status,
    drop constraint jobs_stage,
    add constraint jobs_sound check (
        stageflow.is_sound_job(job_id, workflow_version, status, run, stage, total_stages));
alter table stageflow.stages
    drop constraint stages_run_check, drop constraint stages_stage_number_check, drop constraint stages_generation_check,
    drop constraint stages_task_count_check, drop constraint stages_remaining_check, drop constraint stages_status,
    drop constraint stages_counters,
    add constraint stages_sound check (
        stageflow.is_sound_stage(
            run, stage_number, generation, status, task_count, remaining,
            successful_tasks + failed_tasks + skipped_tasks + cancelled_tasks));
alter table stageflow.ranges
    drop constraint ranges_kind_check, drop constraint ranges_state, drop constraint ranges_width,
    drop constraint ranges_lease,
    add constraint ranges_sound check (stageflow.is_sound_range(kind, first, last, state, token));
