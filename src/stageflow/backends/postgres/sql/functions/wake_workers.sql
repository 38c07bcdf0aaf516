-- Called before ranges of a work type become ready. Promise: workers are notified at commit if none of that type was ready and
-- free (a row that a rival is about to lease has xmax set, and does not count). Notifying serialises commits, so a type that has
-- ready work is left alone; polling covers the rest.
-- Locks: none. Errors: none.
create or replace function stageflow.wake_workers(p_work_type text) returns void
language plpgsql volatile as $$
declare
    v_head record;
begin
    select h.* into v_head from stageflow.next_ready(p_work_type, -2147483648, 0, 0) h;
    if found then
        perform 1 from stageflow.ranges r
        where r.work_type = p_work_type and r.state = 'ready' and r.xmax = '0'::xid
            and (-r.priority, r.turn, r.range_id) >= (v_head.urgency, v_head.turn, v_head.range_id)
        order by -r.priority, r.turn, r.range_id limit 1;
    end if;
    if not found then
        perform pg_notify('stageflow_work', '');
    end if;
end
$$;
