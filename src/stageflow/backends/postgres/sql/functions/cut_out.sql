-- Promise: a range no longer holds one of its indexes. What is before it stays with the range (and its holder); what is after it is
-- ready, or as the range was. Where the index is the range's first, a holder loses its lease.
-- Locks: the caller holds the range. Errors: none.
create or replace function stageflow.cut_out(p_range stageflow.ranges, p_index integer) returns void
language plpgsql volatile as $$
declare
    v_state text := case when p_range.state = 'leased' then 'ready' else p_range.state end;
begin
    if p_index + 1 < p_range.last then
        if v_state = 'ready' then
            perform stageflow.wake_workers(p_range.work_type);
        end if;
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, suspect, not_before,
            error_details, created_at)
        values (
            p_range.stage_id, p_range.kind, p_range.work_type, p_range.generation, p_index + 1, p_range.last, p_range.attempt,
            v_state, p_range.priority, p_range.turn, p_range.suspect, p_range.not_before, p_range.error_details,
            stageflow.clock());
    end if;
    if p_index = p_range.first then
        delete from stageflow.ranges r where r.range_id = p_range.range_id;
    else
        update stageflow.ranges r set last = p_index where r.range_id = p_range.range_id;
    end if;
end
$$;
