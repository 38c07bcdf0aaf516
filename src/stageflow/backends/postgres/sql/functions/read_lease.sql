-- Promise: what the holder of a leased range needs, its tasks' parameters included, in index order.
-- Locks: none. Errors: none.
create or replace function stageflow.read_lease(p_range_id bigint) returns table (
    range_id bigint, token bigint, kind text, job_id text, job_type text, workflow_version integer, run integer,
    stage_id bigint, stage_number integer, generation integer, task_type text, first integer, last integer,
    attempt integer, deaths integer, suspect boolean, tasks text[])
language plpgsql volatile strict rows 1 as $$
#variable_conflict use_column
begin
    return query
    select r.range_id, r.token, r.kind, s.job_id, j.job_type, j.workflow_version, s.run,
        r.stage_id, s.stage_number, r.generation, s.task_type, r.first, r.last, r.attempt, r.deaths, r.suspect,
        case when r.kind = 'task' then array(
            select t.parameters from stageflow.tasks t
            where t.stage_id = r.stage_id and t.task_index >= r.first and t.task_index < r.last
            order by t.task_index)
        else '{}' end
    from stageflow.ranges r
    cross join lateral (select s.* from stageflow.stages s where s.stage_id = r.stage_id offset 0) s
    cross join lateral (select j.* from stageflow.jobs j where j.job_id = s.job_id offset 0) j
    where r.range_id = p_range_id;
end
$$;
