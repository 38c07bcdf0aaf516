-- Promise: delayed ranges that are due become ready, of the given work types or (null) of all, at most p_limit of each type;
-- returns how many.
-- Locks: the ranges, skipping locked ones. Errors: none.
create or replace function stageflow.open_due(p_work_types text[], p_limit integer) returns integer
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_due bigint[] := '{}';
    v_type text;
begin
    foreach v_type in array coalesce(p_work_types, stageflow.waiting_work_types()) loop
        v_due := v_due || array(
            select r.range_id from stageflow.ranges r
            where r.work_type = v_type and r.state = 'waiting' and r.not_before <= v_now
            order by r.not_before limit p_limit for update skip locked);
    end loop;
    if cardinality(v_due) = 0 then
        return 0;
    end if;
    perform stageflow.wake_workers(t.work_type)
    from (select distinct r.work_type from stageflow.ranges r where r.range_id = any (v_due)) t;
    update stageflow.ranges r set state = 'ready', not_before = null, announced_at = null where r.range_id = any (v_due);
    return cardinality(v_due);
end
$$;
