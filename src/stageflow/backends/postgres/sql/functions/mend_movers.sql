-- Promise: tasks with neither a result nor a range have one that is ready (held, while the stage's other tasks wait for the end of
-- its planning); answers how many tasks these were. Tasks whose definition is gone stay as they are. Nothing changes in a stage
-- that is closed or whose job has ended.
-- Locks: the stage, under which tasks are counted and planned. Errors: SF001.
create or replace function stageflow.mend_movers(p_stage_id bigint) returns integer
language plpgsql volatile as $$
declare
    v_stage stageflow.stages;
    v_job record;
    v_state text := 'ready';
    v_defined integer;
    v_count integer;
begin
    perform stageflow.require_read_committed();
    select s.* into v_stage from stageflow.stages s where s.stage_id = p_stage_id for no key update;
    select j.status, j.job_type, j.workflow_version, j.priority into v_job
    from stageflow.jobs j where j.job_id = v_stage.job_id;
    if not found or stageflow.is_closed_stage(v_stage.status) or stageflow.is_ended_job(v_job.status) then
        return 0;
    end if;
    if not v_stage.planned then
        perform 1 from stageflow.ranges r
        where r.stage_id = p_stage_id and r.kind = 'task' and r.state <> 'held' limit 1;
        v_state := case when found then 'ready' else 'held' end;
    end if;
    select coalesce(max(t.task_index) + 1, 0) into v_defined from stageflow.tasks t where t.stage_id = p_stage_id;
    perform stageflow.wake_workers(
        stageflow.task_work_type(v_job.job_type, v_job.workflow_version, v_stage.task_type));
    with pieces as (
        select t.task_index as first, t.task_index + 1 as last from stageflow.results t where t.stage_id = p_stage_id
        union all
        select r.first, r.last from stageflow.ranges r where r.stage_id = p_stage_id and r.kind = 'task'
        union all
        select least(v_stage.task_count, v_defined), least(v_stage.task_count, v_defined)
    ), swept as (
        select p.first, coalesce(
            max(p.last) over (order by p.first, p.last rows between unbounded preceding and 1 preceding), 0) as before
        from pieces p
    ), made as (
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, state, priority, created_at)
        select p_stage_id, 'task', stageflow.task_work_type(v_job.job_type, v_job.workflow_version, v_stage.task_type),
            v_stage.generation, s.before, s.first, v_state, v_job.priority, stageflow.clock()
        from swept s where s.first > s.before
        returning ranges.last - ranges.first as width
    )
    select coalesce(sum(m.width), 0) into v_count from made m;
    return v_count;
end
$$;
