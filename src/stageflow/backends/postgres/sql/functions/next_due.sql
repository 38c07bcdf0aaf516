-- When the next delayed range of the given work types is due; null where there is none.
-- Locks: none. Errors: none.
create or replace function stageflow.next_due(p_work_types text[]) returns timestamptz
language plpgsql volatile as $$
declare
    v_due timestamptz;
begin
    select min(head.not_before) into v_due
    from unnest(p_work_types) as t (work_type)
    cross join lateral (
        select r.not_before from stageflow.ranges r
        where r.work_type = t.work_type and r.state = 'waiting'
        order by r.not_before limit 1
    ) head;
    return v_due;
end
$$;
