-- Promise: the stages are halted and their unleased tasks skipped; one that is emptied by it gets its advancement.
-- Locks: the caller holds the stages; ranges, skipping locked ones. Errors: none.
create or replace function stageflow.halt_stages(p_stage_ids bigint[]) returns void
language plpgsql volatile as $$
declare
    v_stage_id bigint;
begin
    for v_stage_id in select s.stage_id from unnest(p_stage_ids) as s (stage_id) order by s.stage_id loop
        update stageflow.stages s set halted = true where s.stage_id = v_stage_id and not s.halted;
        if found then
            perform stageflow.note_stage_event(v_stage_id, 'stage_halted', null, null, null, null, null, null, 'a sibling failed');
        end if;
        perform stageflow.count_down(v_stage_id, 0, 0, 0, 0, null, 0);
    end loop;
end
$$;
