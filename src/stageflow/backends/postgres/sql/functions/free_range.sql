-- Promise: the tail [p_first, last) of a leased range is ready again, and workers are told; the holder keeps what is before it, or
-- loses the lease where there is nothing. The tail of a halted stage or an ended job is closed instead, and its width answered.
-- Locks: the caller holds the range; the job FOR SHARE where it looks paused. Errors: none.
create or replace function stageflow.free_range(
    p_range stageflow.ranges, p_first integer, out o_skipped integer, out o_cancelled integer)
language plpgsql volatile as $$
declare
    v_tail stageflow.ranges := p_range;
begin
    perform stageflow.wake_workers(p_range.work_type);
    if p_first = p_range.first then
        update stageflow.ranges r set
            state = 'ready', token = null, worker_id = null, lease_expires_at = null, current_index = null, current_since = null,
            announced_at = null
        where r.range_id = p_range.range_id
        returning r.* into v_tail;
    else
        update stageflow.ranges r set last = p_first where r.range_id = p_range.range_id;
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, suspect, error_details, created_at)
        values (
            p_range.stage_id, p_range.kind, p_range.work_type, p_range.generation, p_first, p_range.last, p_range.attempt, 'ready',
            p_range.priority, p_range.turn, p_range.suspect, p_range.error_details, stageflow.clock())
        returning ranges.* into v_tail;
    end if;
    select g.o_skipped, g.o_cancelled into o_skipped, o_cancelled from stageflow.admit_range(v_tail) g;
end
$$;
