-- Promise: the next stages of a job's run are there: skipped ones (those with a result text) closed, the others with the work of
-- planning them, the first of which is leased to p_worker_id. Returns that lease; null where all are skipped.
-- The lists are parallel.
-- Locks: the caller holds the job. Errors: SF002 where a stage of that number is open already.
create or replace function stageflow.open_stages(
    p_job_id text, p_numbers integer[], p_names text[], p_task_types text[], p_fail_fast boolean[], p_rates double precision[],
    p_group_firsts integer[], p_group_lasts integer[], p_skipped_results text[], p_worker_id text,
    p_lease_seconds double precision) returns bigint
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_job stageflow.jobs;
    v_work_type text;
    v_next record;
    v_stage_id bigint;
    v_range_id bigint;
begin
    select j.* into v_job from stageflow.jobs j where j.job_id = p_job_id;
    perform 1 from stageflow.stages s
    where s.job_id = p_job_id and s.run = v_job.run and s.stage_number = any (p_numbers)
    limit 1;
    if found then
        raise exception using errcode = 'SF002', message = format(
            'a stage after the present one of job %s is open already; run `stageflow doctor` and correct its rows by hand, or '
            'cancel it and submit it again.', p_job_id);
    end if;
    v_work_type := stageflow.control_work_type(v_job.job_type, v_job.workflow_version);
    for v_next in
        select n.* from unnest(
            p_numbers, p_names, p_task_types, p_fail_fast, p_rates, p_group_firsts, p_group_lasts, p_skipped_results
        ) as n (number, name, task_type, fail_fast, rate, group_first, group_last, skipped_result)
        order by n.number
    loop
        insert into stageflow.stages (
            job_id, run, stage_number, name, task_type, status, planned, fail_fast, minimum_success_rate, group_first, group_last,
            stored_result, created_at, updated_at)
        values (
            p_job_id, v_job.run, v_next.number, v_next.name, v_next.task_type,
            case when v_next.skipped_result is not null then 'skipped' when v_range_id is null then 'planning' else 'pending' end,
            v_next.skipped_result is not null, v_next.fail_fast, v_next.rate, v_next.group_first, v_next.group_last,
            v_next.skipped_result, v_now, v_now)
        returning stages.stage_id into v_stage_id;
        continue when v_next.skipped_result is not null;
        if v_range_id is null then
            insert into stageflow.ranges (
                stage_id, kind, work_type, first, last, state, priority, token, worker_id, lease_expires_at, renewed_at,
                current_index, current_since, created_at)
            values (
                v_stage_id, 'plan', v_work_type, 0, 1, 'leased', v_job.priority, nextval('stageflow.lease_token'), p_worker_id,
                v_now + make_interval(secs => p_lease_seconds), v_now, 0, v_now, v_now)
            returning ranges.range_id into v_range_id;
        else
            perform stageflow.wake_workers(v_work_type);
            insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, priority, created_at)
            values (v_stage_id, 'plan', v_work_type, 0, 1, 'ready', v_job.priority, v_now);
        end if;
    end loop;
    insert into stageflow.events (job_id, run, stage_number, generation, kind, status, at)
    select p_job_id, v_job.run, n.number, 1, case when n.result is null then 'stage_opened' else 'stage_closed' end,
        case when n.result is not null then 'skipped' end, stageflow.clock()
    from unnest(p_numbers, p_skipped_results) as n (number, result)
    order by n.number;
    return v_range_id;
end
$$;
