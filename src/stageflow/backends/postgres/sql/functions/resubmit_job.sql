-- Runs a failed or cancelled job again.
-- Promise: the job is queued with run + 1 and without answer and error; the stages before the first given one are taken over from
-- the former run (their tasks and results stay where they are), the given ones are open with the work of planning them. The former
-- run keeps its stages, and whatever of it is still leased or ready sees a job that has ended (status_in_run). False: there is no
-- such job. The lists are parallel. The deadline is the given one or none; a timeout counts from the new run's start.
-- Locks: the job, alone. Errors: SF001; SF002 where a stage before the first given one did not complete; SF003 where the job has
-- not failed and is not cancelled, or is in another run than p_run.
create or replace function stageflow.resubmit_job(
    p_job_id text, p_run integer, p_numbers integer[], p_names text[], p_task_types text[], p_fail_fast boolean[],
    p_rates double precision[], p_group_firsts integer[], p_group_lasts integer[],
    p_deadline double precision default null, p_timeout double precision default null) returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_job stageflow.jobs;
    v_first integer := p_numbers[1];
    v_done integer;
    v_work_type text;
begin
    perform stageflow.require_read_committed();
    select j.* into v_job from stageflow.jobs j where j.job_id = p_job_id for no key update;
    if not found then
        return false;
    end if;
    if v_job.status not in ('failed', 'cancelled') then
        raise exception using errcode = 'SF003', message = format(
            'job %s is %s and cannot be resubmitted, which only a failed or cancelled job can; allowed from %s: %s',
            p_job_id, v_job.status, v_job.status, stageflow.describe_following(v_job.status));
    end if;
    if v_job.run <> p_run then
        raise exception using errcode = 'SF003', message = format(
            'job %s is in run %s, not %s: it was resubmitted meanwhile; look at it again', p_job_id, v_job.run, p_run);
    end if;
    v_done := stageflow.take_over_stages(p_job_id, p_run, 1, v_first - 1, v_first - 1);
    if v_done <> v_first - 1 then
        raise exception using errcode = 'SF002', message = format(
            'job %s cannot go on from stage %s: only %s stages before it completed in run %s; resubmit the whole job.',
            p_job_id, v_first, v_done, p_run);
    end if;
    update stageflow.jobs j set
        status = 'queued', run = p_run + 1, stage = v_first, result_data = null, error_details = null, updated_at = v_now,
        deadline = to_timestamp(p_deadline), timeout_seconds = coalesce(p_timeout, j.timeout_seconds)
    where j.job_id = p_job_id;
    v_work_type := stageflow.control_work_type(v_job.job_type, v_job.workflow_version);
    perform stageflow.wake_workers(v_work_type);
    perform stageflow.note_event(p_job_id, p_run + 1, 'job_resubmitted', 'queued', null, v_first);
    with opened as (
        insert into stageflow.stages (
            job_id, run, stage_number, name, task_type, status, fail_fast, minimum_success_rate, group_first, group_last,
            created_at, updated_at)
        select p_job_id, p_run + 1, n.number, n.name, n.task_type, 'pending', n.fail_fast, n.rate, n.group_first, n.group_last,
            v_now, v_now
        from unnest(p_numbers, p_names, p_task_types, p_fail_fast, p_rates, p_group_firsts, p_group_lasts)
            as n (number, name, task_type, fail_fast, rate, group_first, group_last)
        order by n.number
        returning stages.stage_id, stages.stage_number
    ), noted as (
        insert into stageflow.events (job_id, run, stage_number, generation, kind, at)
        select p_job_id, p_run + 1, o.stage_number, 1, 'stage_opened', stageflow.clock() from opened o order by o.stage_number
    )
    insert into stageflow.ranges (stage_id, kind, work_type, first, last, state, priority, not_before, created_at)
    select o.stage_id, 'plan', v_work_type, 0, 1, case when v_job.not_before > v_now then 'waiting' else 'ready' end,
        v_job.priority, case when v_job.not_before > v_now then v_job.not_before end, v_now
    from opened o
    order by o.stage_id;
    return true;
end
$$;
