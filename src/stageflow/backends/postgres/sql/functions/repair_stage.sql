-- Runs chosen tasks of a finished stage again, in the next run of a job that has ended.
-- Promise: the job is queued with run + 1 and without answer and error. The stages before the repaired one and its siblings are taken
-- over. Of the repaired stage the new run has the definitions of all tasks, the newest results of those that were not chosen (under
-- the former generation), and ranges of the chosen ones under the next generation: nothing is planned, and nothing else is claimable.
-- Later stages are opened when it is closed. The former run stays as it ended. False: there is no such job.
-- p_tasks ascends and holds no index twice.
-- Locks: the job, alone. Errors: SF001; SF002 where the stage is not finished, an index is not its, or another that is to be taken
-- over did not complete; SF003 where the job has not ended, or is in another run than p_run.
create or replace function stageflow.repair_stage(
    p_job_id text, p_run integer, p_number integer, p_name text, p_task_type text, p_fail_fast boolean, p_rate double precision,
    p_tasks integer[]) returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_job stageflow.jobs;
    v_former stageflow.stages;
    v_source_id bigint;
    v_stage_id bigint;
    v_done integer;
    v_chosen integer := cardinality(p_tasks);
    v_work_type text;
    v_turn bigint;
begin
    perform stageflow.require_read_committed();
    select j.* into v_job from stageflow.jobs j where j.job_id = p_job_id for no key update;
    if not found then
        return false;
    end if;
    if not stageflow.is_ended_job(v_job.status) then
        raise exception using errcode = 'SF003', message = format(
            'job %s is %s and cannot be repaired, which only a job that has ended can; allowed from %s: %s',
            p_job_id, v_job.status, v_job.status, stageflow.describe_following(v_job.status));
    end if;
    if v_job.run <> p_run then
        raise exception using errcode = 'SF003', message = format(
            'job %s is in run %s, not %s: it was resubmitted or repaired meanwhile; look at it again', p_job_id, v_job.run, p_run);
    end if;
    select s.* into v_former from stageflow.stages s
    where s.job_id = p_job_id and s.run = p_run and s.stage_number = p_number;
    if v_former.stored_result is null or v_former.remaining <> 0
        or v_former.status not in ('completed', 'completed_with_errors', 'failed') then
        raise exception using errcode = 'SF002', message = format(
            'stage %s of job %s is %s and has no result in run %s, so there is nothing to repair; resubmit the job.',
            p_number, p_job_id, coalesce(v_former.status, 'not opened'), p_run);
    end if;
    if p_tasks[v_chosen] >= v_former.task_count then
        raise exception using errcode = 'SF002', message = format(
            'stage %s of job %s has %s, and not task %s; repair those it has.', p_number, p_job_id,
            case v_former.task_count when 0 then 'no tasks' else 'tasks 0 to ' || v_former.task_count - 1 end, p_tasks[v_chosen]);
    end if;
    v_source_id := coalesce(v_former.taken_from, v_former.stage_id);
    v_work_type := stageflow.task_work_type(v_job.job_type, v_job.workflow_version, p_task_type);
    v_done := stageflow.take_over_stages(p_job_id, p_run, 1, p_number - 1, v_former.group_last);
    insert into stageflow.stages (
        job_id, run, stage_number, generation, name, task_type, status, task_count, remaining, planned, plan_digest, fail_fast,
        minimum_success_rate, group_first, group_last, created_at, updated_at)
    values (
        p_job_id, p_run + 1, p_number, v_former.generation + 1, p_name, p_task_type, 'processing', v_former.task_count,
        v_former.task_count, true, v_former.plan_digest, p_fail_fast, p_rate, v_former.group_first, v_former.group_last, v_now,
        v_now)
    returning stages.stage_id into v_stage_id;
    v_done := v_done + stageflow.take_over_stages(p_job_id, p_run, p_number + 1, v_former.group_last, v_former.group_last);
    if v_done <> v_former.group_last - 1 then
        raise exception using errcode = 'SF002', message = format(
            'stage %s of job %s cannot be repaired alone: of the %s stages before and beside it only %s completed in run %s; '
            'resubmit the job.', p_number, p_job_id, v_former.group_last - 1, v_done, p_run);
    end if;
    insert into stageflow.tasks (stage_id, task_index, parameters, key)
    select v_stage_id, t.task_index, t.parameters, t.key from stageflow.tasks t where t.stage_id = v_source_id;
    insert into stageflow.results (
        stage_id, task_index, generation, attempt, status, result, error_details, seconds, token, completed_at)
    select v_stage_id, r.task_index, v_former.generation, r.attempt, r.status, r.result, r.error_details, r.seconds, 0,
        r.completed_at
    from stageflow.read_results(v_source_id, 0, v_former.task_count) r
    where not exists (select 1 from unnest(p_tasks) as c (task_index) where c.task_index = r.task_index);
    update stageflow.stages s set
        successful_tasks = k.successful, failed_tasks = k.failed, skipped_tasks = k.skipped, cancelled_tasks = k.cancelled,
        remaining = s.task_count - k.successful - k.failed - k.skipped - k.cancelled
    from (
        select count(*) filter (where r.status = 'completed') as successful, count(*) filter (where r.status = 'failed') as failed,
            count(*) filter (where r.status = 'skipped') as skipped, count(*) filter (where r.status = 'cancelled') as cancelled
        from stageflow.results r where r.stage_id = v_stage_id
    ) k
    where s.stage_id = v_stage_id
    returning s.remaining into v_done;
    if v_done <> v_chosen then
        raise exception using errcode = 'SF002', message = format(
            'results of %s tasks of stage %s of job %s are missing; restore what was deleted, or submit it again.',
            v_done - v_chosen, p_number, p_job_id);
    end if;
    update stageflow.jobs j set
        status = 'queued', run = p_run + 1, stage = v_former.group_first, result_data = null, error_details = null,
        updated_at = v_now, deadline = null  -- a timeout counts from the new run's start
    where j.job_id = p_job_id;
    perform stageflow.wake_workers(v_work_type);
    select h.turn into v_turn from stageflow.next_ready(v_work_type, -v_job.priority, -1, 0) h where h.urgency = -v_job.priority;
    with islands as (
        select min(c.task_index) as first, max(c.task_index) + 1 as last
        from unnest(p_tasks) with ordinality as c (task_index, place)
        group by c.task_index - c.place
    )
    insert into stageflow.ranges (
        stage_id, kind, work_type, generation, first, last, state, priority, turn, stride, created_at)
    select v_stage_id, 'task', v_work_type, v_former.generation + 1, i.first, i.last, 'ready', v_job.priority,
        coalesce(v_turn, 0) + row_number() over (order by i.first) - 1, count(*) over (), v_now
    from islands i
    order by i.first;
    get diagnostics v_done = row_count;
    update stageflow.stages s set range_count = v_done where s.stage_id = v_stage_id;
    perform stageflow.note_stage_event(
        v_stage_id, 'stage_repaired', 'processing', p_tasks[1], p_tasks[v_chosen] + 1, v_chosen);
    return true;
end
$$;
