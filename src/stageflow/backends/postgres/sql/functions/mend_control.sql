-- Promise: an open stage of an open job that is planned and has no task left has its advancement, one that is not planned its
-- planning; false where it had what it needs.
-- Locks: the stage, under which control work is made; the job FOR SHARE where it looks paused. Errors: SF001.
create or replace function stageflow.mend_control(p_stage_id bigint) returns boolean
language plpgsql volatile as $$
declare
    v_stage stageflow.stages;
    v_job record;
    v_work_type text;
begin
    perform stageflow.require_read_committed();
    select s.* into v_stage from stageflow.stages s where s.stage_id = p_stage_id for no key update;
    select j.status, j.job_type, j.workflow_version, j.priority into v_job
    from stageflow.jobs j where j.job_id = v_stage.job_id;
    if not found or stageflow.is_closed_stage(v_stage.status) or stageflow.is_ended_job(v_job.status) then
        return false;
    end if;
    perform 1 from stageflow.ranges r
    where r.stage_id = p_stage_id
        and (r.kind <> 'task' or (v_stage.planned and r.state in ('ready', 'leased', 'waiting', 'held')));
    if found or (v_stage.planned and v_stage.remaining > 0) then
        return false;
    end if;
    if v_stage.planned then
        perform stageflow.open_advance(v_stage, null, 0);
        return true;
    end if;
    v_work_type := stageflow.control_work_type(v_job.job_type, v_job.workflow_version);
    perform stageflow.wake_workers(v_work_type);
    insert into stageflow.ranges (stage_id, kind, work_type, generation, first, last, state, priority, created_at)
    values (p_stage_id, 'plan', v_work_type, v_stage.generation, 0, 1, 'ready', v_job.priority, stageflow.clock());
    return true;
end
$$;
