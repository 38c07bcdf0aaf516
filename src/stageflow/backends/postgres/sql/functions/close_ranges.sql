-- Promise: the unleased task ranges of a stage are closed as p_state (skipped or cancelled); returns how many tasks they held.
-- The caller takes them off the stage's counters. A range that another transaction holds is left: who meets it closes it.
-- Locks: the ranges, skipping locked ones. Errors: none.
create or replace function stageflow.close_ranges(p_stage_id bigint, p_state text) returns integer
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_open bigint[] := array(
        select r.range_id from stageflow.ranges r
        where r.stage_id = p_stage_id and r.kind = 'task' and r.state in ('ready', 'waiting', 'held')
        for update skip locked);
    v_closed record;
begin
    with closed as (
        update stageflow.ranges r set state = p_state, closed_at = v_now, not_before = null
        where r.range_id = any (v_open)
        returning r.first, r.last
    )
    select coalesce(sum(c.last - c.first), 0)::integer as width, min(c.first) as first, max(c.last) as last into v_closed
    from closed c;
    if v_closed.width > 0 then
        perform stageflow.note_stage_event(
            p_stage_id, 'tasks_' || p_state, null, v_closed.first, v_closed.last, v_closed.width);
    end if;
    return v_closed.width;
end
$$;
