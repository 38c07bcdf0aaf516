-- Promise: the tail [p_first, last) of a leased range is ready again, and workers are told; the holder keeps what is before it, or
-- loses the lease where there is nothing. With a delay (zero included) the tail was tried and failed: it goes back with its next
-- attempt, due after it. The tail of a halted stage or an ended job is closed instead, and its width answered.
-- Locks: the caller holds the range; the job FOR SHARE where it looks paused. Errors: none.
create or replace function stageflow.free_range(
    p_range stageflow.ranges, p_first integer, p_delay double precision, p_error text,
    out o_skipped integer, out o_cancelled integer)
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_tail stageflow.ranges := p_range;
begin
    if p_delay > 0 then
        v_tail.state := 'waiting';
        v_tail.not_before := v_now + make_interval(secs => p_delay);
    else
        v_tail.state := 'ready';
        perform stageflow.wake_workers(p_range.work_type);
    end if;
    if p_delay is not null then
        v_tail.attempt := p_range.attempt + 1;
        v_tail.error_details := p_error;
    end if;
    if p_first = p_range.first then
        update stageflow.ranges r set
            state = v_tail.state, not_before = v_tail.not_before, attempt = v_tail.attempt,
            error_details = v_tail.error_details, token = null, worker_id = null, lease_expires_at = null, current_index = null,
            current_since = null, announced_at = null
        where r.range_id = p_range.range_id
        returning r.* into v_tail;
    else
        update stageflow.ranges r set last = p_first where r.range_id = p_range.range_id;
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, suspect, not_before,
            error_details, created_at)
        values (
            p_range.stage_id, p_range.kind, p_range.work_type, p_range.generation, p_first, p_range.last, v_tail.attempt,
            v_tail.state, p_range.priority, p_range.turn, p_range.suspect, v_tail.not_before, v_tail.error_details, v_now)
        returning ranges.* into v_tail;
    end if;
    select g.o_skipped, g.o_cancelled into o_skipped, o_cancelled from stageflow.admit_range(v_tail) g;
    if p_delay is not null then
        perform stageflow.note_stage_event(
            r.stage_id, case r.kind when 'task' then 'tasks' when 'plan' then 'planning' else 'advancing' end || '_retried', null,
            case when r.kind = 'task' then r.first end, case when r.kind = 'task' then r.last end,
            case when r.kind = 'task' then r.last - r.first end, p_range.attempt, p_range.worker_id, p_error)
        from stageflow.ranges r
        where r.range_id = v_tail.range_id and r.state in ('ready', 'waiting', 'held');
    end if;
end
$$;
