-- Promise: what is held of the given stages is ready, and workers are told; tasks that wait for the end of their planning stay.
-- Returns how many ranges.
-- Locks: the ranges, skipping locked ones. Errors: none.
create or replace function stageflow.open_held(p_stage_ids bigint[]) returns integer
language plpgsql volatile as $$
declare
    v_held text[] := array['held'];
    v_planned bigint[] := array(select s.stage_id from stageflow.stages s where s.stage_id = any (p_stage_ids) and s.planned);
    v_range_ids bigint[] := array(
        select r.range_id from stageflow.ranges r
        where r.stage_id = any (p_stage_ids) and r.state = any (v_held)
            and (r.kind <> 'task' or r.stage_id = any (v_planned))
        for update skip locked);
begin
    if cardinality(v_range_ids) = 0 then
        return 0;
    end if;
    perform stageflow.wake_workers(t.work_type)
    from (select distinct r.work_type from stageflow.ranges r where r.range_id = any (v_range_ids)) t;
    update stageflow.ranges r set state = 'ready', announced_at = null where r.range_id = any (v_range_ids);
    return cardinality(v_range_ids);
end
$$;
