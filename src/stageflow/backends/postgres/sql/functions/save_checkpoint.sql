-- Keeps what a running task wants its next attempt to know; it replaces what the task kept before.
-- Promise: true, if the token holds the range and the task is in it. Else false, and nothing is written.
-- Locks: the range. Errors: SF001.
create or replace function stageflow.save_checkpoint(
    p_range_id bigint, p_token bigint, p_index integer, p_value text) returns boolean
language plpgsql volatile as $$
declare
    v_range stageflow.ranges;
begin
    perform stageflow.require_read_committed();
    select r.* into v_range from stageflow.ranges r where r.range_id = p_range_id and r.token = p_token for update;
    if not found or v_range.kind <> 'task' or p_index < v_range.first or p_index >= v_range.last then
        return false;
    end if;
    insert into stageflow.checkpoints as c (stage_id, task_index, generation, attempt, value, saved_at)
    values (v_range.stage_id, p_index, v_range.generation, v_range.attempt, p_value, stageflow.clock())
    on conflict (stage_id, task_index) do update set
        generation = excluded.generation, attempt = excluded.attempt, value = excluded.value, saved_at = excluded.saved_at;
    if not v_range.checkpointed then
        update stageflow.ranges r set checkpointed = true where r.range_id = p_range_id;
    end if;
    return true;
end
$$;
