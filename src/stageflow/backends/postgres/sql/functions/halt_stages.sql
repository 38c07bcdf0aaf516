-- Promise: the stages are halted and their unleased tasks skipped; one that is emptied by it gets its advancement.
-- Locks: the caller holds the stages; ranges, skipping locked ones. Errors: none.
create or replace function stageflow.halt_stages(p_stage_ids bigint[]) returns void
language plpgsql volatile as $$
declare
    v_stage_id bigint;
begin
    foreach v_stage_id in array p_stage_ids loop
        update stageflow.stages s set halted = true where s.stage_id = v_stage_id;
        perform stageflow.count_down(v_stage_id, 0, 0, 0, 0, null, 0);
    end loop;
end
$$;
