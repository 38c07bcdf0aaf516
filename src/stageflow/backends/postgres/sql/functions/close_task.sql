-- Ends or requeues one unfinished task by an operator's hand, in the present run and the newest generation of its stage.
-- Promise: the task alone is taken out of its range. queued takes it from its holder for another attempt (one that waits already
-- is left as it is); failed, skipped and cancelled are recorded as its result, through the same counters. A holder that was at this
-- very task loses its lease; one that was before it keeps what is before. False: the task has ended, or there is none; nor is a
-- task of a job that has ended requeued.
-- Locks: the range, then the stage, then (count_down) the job. Errors: SF001.
create or replace function stageflow.close_task(
    p_job_id text, p_stage_number integer, p_index integer, p_status text, p_error text) returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_run integer;
    v_status text;
    v_stage stageflow.stages;
    v_range stageflow.ranges;
begin
    perform stageflow.require_read_committed();
    select j.run, j.status into v_run, v_status from stageflow.jobs j where j.job_id = p_job_id;
    select s.* into v_stage from stageflow.stages s
    where s.job_id = p_job_id and s.run = v_run and s.stage_number = p_stage_number;
    if not found then
        return false;
    end if;
    loop
        select r.* into v_range from stageflow.ranges r
        where r.stage_id = v_stage.stage_id and r.kind = 'task' and r.generation = v_stage.generation
            and r.first <= p_index and r.last > p_index and r.state in ('ready', 'leased', 'waiting', 'held')
        for update;
        exit when found;
        perform 1 from stageflow.ranges r
        where r.stage_id = v_stage.stage_id and r.kind = 'task' and r.generation = v_stage.generation
            and r.first <= p_index and r.last > p_index and r.state in ('ready', 'leased', 'waiting', 'held');
        if not found then
            return false;
        end if;
    end loop;
    if p_status = 'queued' and (v_range.state <> 'leased' or stageflow.is_ended_job(v_status)) then
        return not stageflow.is_ended_job(v_status);
    end if;
    perform stageflow.cut_out(v_range, p_index);
    perform stageflow.note_stage_event(
        v_range.stage_id, 'task_closed', p_status, p_index, p_index + 1, 1, v_range.attempt, v_range.worker_id, p_error);
    if p_status = 'queued' then
        perform stageflow.wake_workers(v_range.work_type);
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, error_details, created_at)
        values (
            v_range.stage_id, 'task', v_range.work_type, v_range.generation, p_index, p_index + 1, v_range.attempt + 1, 'ready',
            v_range.priority, v_range.turn, p_error, v_now);
    else
        insert into stageflow.results (
            stage_id, task_index, generation, attempt, status, error_details, seconds, token, completed_at)
        values (
            v_range.stage_id, p_index, v_range.generation, v_range.attempt, p_status,
            coalesce(nullif(p_error, ''), p_status || ' by an operator'), 0, 0, v_now);
        delete from stageflow.checkpoints c where c.stage_id = v_range.stage_id and c.task_index = p_index;
        perform stageflow.count_down(
            v_range.stage_id, 0, (p_status = 'failed')::integer, (p_status = 'skipped')::integer,
            (p_status = 'cancelled')::integer, null, 0);
    end if;
    return true;
end
$$;
