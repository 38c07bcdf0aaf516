-- Promise: a stage whose planner cannot repeat itself is as before its planning.
-- Locks: the caller holds the plan range and the stage. Errors: SF002 where a task was leased or has ended.
create or replace function stageflow.forget_tasks(p_stage_id bigint) returns void
language plpgsql volatile as $$
begin
    perform 1 from stageflow.results t where t.stage_id = p_stage_id limit 1;
    if not found then
        perform 1 from stageflow.ranges r
        where r.stage_id = p_stage_id and r.kind = 'task' and r.state not in ('ready', 'waiting', 'held') limit 1;
    end if;
    if found then
        raise exception using errcode = 'SF002', message = format(
            'tasks of stage %s have started, so its plan cannot be replaced; plan with claimable=False.', p_stage_id);
    end if;
    delete from stageflow.ranges r where r.stage_id = p_stage_id and r.kind = 'task';
    delete from stageflow.tasks t where t.stage_id = p_stage_id;
    delete from stageflow.partials p where p.stage_id = p_stage_id;
    update stageflow.stages s set task_count = 0, remaining = 0, plan_digest = '' where s.stage_id = p_stage_id;
end
$$;
