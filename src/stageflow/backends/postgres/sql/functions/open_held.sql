-- Promise: held ranges, locked by the caller, are ready, and workers are told; returns how many.
-- Locks: the caller holds the ranges. Errors: none.
create or replace function stageflow.open_held(p_range_ids bigint[]) returns integer
language plpgsql volatile as $$
begin
    if cardinality(p_range_ids) = 0 then
        return 0;
    end if;
    perform stageflow.wake_workers(t.work_type)
    from (select distinct r.work_type from stageflow.ranges r where r.range_id = any (p_range_ids)) t;
    update stageflow.ranges r set state = 'ready', announced_at = null where r.range_id = any (p_range_ids);
    return cardinality(p_range_ids);
end
$$;
