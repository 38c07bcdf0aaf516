-- Before several pieces of control work are carried out in one transaction: takes the locks that they will take, in one order.
-- Promise: the ranges, the stages of their groups and (p_jobs) their jobs are the caller's; returns the ranges as they were asked.
-- Two callers that want some of the same rows never wait for each other.
-- Locks: ranges by id, stages by id, jobs by id. Errors: none.
create or replace function stageflow.lock_control(p_range_ids bigint[], p_jobs boolean) returns bigint[]
language plpgsql volatile as $$
declare
    v_stage_ids bigint[];
begin
    perform 1 from stageflow.ranges r where r.range_id = any (p_range_ids) order by r.range_id for update;
    v_stage_ids := array(
        select s.stage_id
        from (select r.stage_id from stageflow.ranges r where r.range_id = any (p_range_ids)) r
        cross join lateral (
            select o.job_id, o.run, o.group_first from stageflow.stages o where o.stage_id = r.stage_id offset 0) o
        cross join lateral (
            select s.stage_id from stageflow.stages s
            where s.job_id = o.job_id and s.run = o.run and s.group_first = o.group_first
            offset 0
        ) s);
    perform 1 from stageflow.stages s where s.stage_id = any (v_stage_ids) order by s.stage_id for no key update;
    if p_jobs then
        perform 1 from stageflow.jobs j
        where j.job_id = any (array(select s.job_id from stageflow.stages s where s.stage_id = any (v_stage_ids)))
        order by j.job_id for no key update;
    end if;
    return p_range_ids;
end
$$;
