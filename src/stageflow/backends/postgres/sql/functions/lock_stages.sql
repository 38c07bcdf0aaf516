-- Promise: true, if nobody else holds one of these stages or a range of them; then the caller holds them all. Waits for nobody.
-- Locks: the ranges, then the stages, skipping locked ones. Errors: none.
create or replace function stageflow.lock_stages(p_stage_ids bigint[]) returns boolean
language plpgsql volatile as $$
declare
    v_range_ids bigint[] := array(select r.range_id from stageflow.ranges r where r.stage_id = any (p_stage_ids));
begin
    return cardinality(v_range_ids) = cardinality(array(
            select r.range_id from stageflow.ranges r where r.range_id = any (v_range_ids) for update skip locked))
        and cardinality(p_stage_ids) = cardinality(array(
            select s.stage_id from stageflow.stages s where s.stage_id = any (p_stage_ids) for update skip locked));
end
$$;
