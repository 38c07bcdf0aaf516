-- Promise: each job whose id is new is there with its first stage and the work of planning it, all or none; returns the places
-- (from 1) of those that were created. The lists are parallel, the ids distinct.
-- Locks: none that others wait for, except a concurrent creation of the same job. Errors: SF001; SF004 where another job holds
-- an idempotency key.
create or replace function stageflow.create_jobs(
    p_job_ids text[], p_job_types text[], p_versions integer[], p_total_stages integer[], p_parameters text[], p_metadata text[],
    p_keys text[], p_priorities integer[], p_not_before double precision[],
    p_stage_names text[], p_task_types text[], p_fail_fast boolean[], p_rates double precision[],
    p_max_running integer[] default '{}', p_deadlines double precision[] default null,
    p_timeouts double precision[] default null)
returns setof bigint
language plpgsql volatile set enable_nestloop = off as $$
declare
    v_now timestamptz := stageflow.clock();
begin
    perform stageflow.require_read_committed();
    perform stageflow.wake_workers(distinct_types.work_type) from (
        select distinct stageflow.control_work_type(a.job_type, a.version) as work_type
        from unnest(p_job_types, p_versions) as a (job_type, version)
    ) distinct_types;
    return query
    with asked as materialized (
        select a.*, to_timestamp(a.start) as not_before
        from unnest(
            p_job_ids, p_job_types, p_versions, p_total_stages, p_parameters, p_metadata, p_keys, p_priorities, p_not_before,
            p_stage_names, p_task_types, p_fail_fast, p_rates, p_max_running, p_deadlines, p_timeouts
        ) with ordinality as a (
            job_id, job_type, version, total_stages, parameters, metadata, key, priority, start,
            stage_name, task_type, fail_fast, rate, max_running, deadline, timeout_seconds, place)
        order by a.job_id  -- neighbours in the indexes go in one after the other
    ), made as (
        insert into stageflow.jobs (
            job_id, job_type, workflow_version, status, total_stages, parameters, metadata, idempotency_key, priority,
            not_before, deadline, timeout_seconds, created_at, updated_at)
        select a.job_id, a.job_type, a.version, 'queued', a.total_stages, coalesce(a.parameters, ''), coalesce(a.metadata, '{}'),
            coalesce(a.key, ''), a.priority, a.not_before, to_timestamp(a.deadline), a.timeout_seconds, v_now, v_now
        from asked a
        on conflict (job_id) do nothing
        returning jobs.job_id
    ), wanted as materialized (
        select a.* from asked a join made m on m.job_id = a.job_id
    ), opened as (
        insert into stageflow.stages (
            job_id, run, stage_number, name, task_type, status, fail_fast, minimum_success_rate, group_first, group_last,
            created_at, updated_at)
        select w.job_id, 1, 1, w.stage_name, w.task_type, 'pending', w.fail_fast, w.rate, 1, 1, v_now, v_now
        from wanted w
        returning stages.stage_id, stages.job_id
    ), planned as (
        insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, priority, not_before, created_at)
        select o.stage_id, 'plan', stageflow.control_work_type(w.job_type, w.version), 0, 1,
            case when w.not_before > v_now then 'waiting' else 'ready' end, w.priority,
            case when w.not_before > v_now then w.not_before end, v_now
        from opened o join wanted w on w.job_id = o.job_id
        order by w.place
    ), limited as (
        insert into stageflow.limits (scope, max_running)
        select w.job_id, w.max_running from wanted w where w.max_running is not null
    ), slotted as (
        insert into stageflow.slots (scope, number)
        select w.job_id, n from wanted w cross join lateral generate_series(1, w.max_running) as n
        where w.max_running is not null
    )
    select w.place from wanted w;
exception
    when unique_violation then
        raise exception using errcode = 'SF004', message = stageflow.taken_key(p_job_ids, p_job_types, p_keys);
end
$$;
