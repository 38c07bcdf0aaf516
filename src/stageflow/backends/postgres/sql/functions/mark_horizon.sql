-- Promise: where the way to the best ready range of a work type leads past many dead index entries, they are hidden for a while
-- (twenty microseconds an entry: looking again then costs a few percent of the time); where it does not, nothing is.
-- Locks: an advisory lock of the type, or does nothing. Errors: none.
create or replace function stageflow.mark_horizon(p_work_type text) returns void
language plpgsql volatile as $$
declare
    v_read bigint := pg_stat_get_xact_tuples_returned('stageflow.ranges_ready'::regclass);
    v_head record;
    v_until timestamptz;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('stageflow horizon of ' || p_work_type, 0)) then
        return;
    end if;
    select -r.priority as urgency, r.turn, r.range_id into v_head from stageflow.ranges r
    where r.work_type = p_work_type and r.state = 'ready'
    order by -r.priority, r.turn, r.range_id limit 1;
    v_read := pg_stat_get_xact_tuples_returned('stageflow.ranges_ready'::regclass) - v_read;
    v_until := stageflow.clock() + v_read * interval '20 microseconds';
    if v_read < 1000 then
        delete from stageflow.horizons h where h.work_type = p_work_type;
    elsif v_head.range_id is null then
        update stageflow.horizons h set
            valid_until = v_until,
            range_id = (select q.last_value from stageflow.ranges_range_id_seq q)
        where h.work_type = p_work_type;
    else
        insert into stageflow.horizons as h (work_type, urgency, turn, range_id, valid_until)
        values (p_work_type, v_head.urgency, v_head.turn, v_head.range_id - 1, v_until)
        on conflict (work_type) do update set
            urgency = excluded.urgency, turn = excluded.turn, range_id = excluded.range_id, valid_until = excluded.valid_until;
    end if;
end
$$;
