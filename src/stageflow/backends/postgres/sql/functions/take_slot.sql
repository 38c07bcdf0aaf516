-- Promise: the number of a slot of the scope that is free and locked for the caller; null where there is none to be had. While more
-- leases run than the limit allows (it was lowered), none is given out before enough of them ended.
-- Locks: slots, and the scope's row while more run than allowed; skipping locked ones. Errors: none.
create or replace function stageflow.take_slot(p_scope text, p_max_running integer) returns integer
language plpgsql volatile as $$
declare
    v_slot record;
    v_running integer;
begin
    perform 1 from stageflow.slots s
    where s.scope = p_scope and s.number > p_max_running and not stageflow.is_free_slot(s.range_id, s.token)
    limit 1;
    if found then
        perform 1 from stageflow.limits l where l.scope = p_scope for no key update skip locked;
        if not found then
            return null;
        end if;
        select count(*) into v_running from stageflow.slots s
        where s.scope = p_scope and not stageflow.is_free_slot(s.range_id, s.token);
        if v_running >= p_max_running then
            return null;
        end if;
    end if;
    for v_slot in
        select s.number from stageflow.slots s
        where s.scope = p_scope and s.number <= p_max_running and stageflow.is_free_slot(s.range_id, s.token)
        order by s.number
    loop
        select s.number, s.range_id, s.token into v_slot from stageflow.slots s
        where s.scope = p_scope and s.number = v_slot.number for update skip locked;
        -- A rival may have given it to a lease between the two looks; that lease is seen now.
        if found and stageflow.is_free_slot(v_slot.range_id, v_slot.token) then
            return v_slot.number;
        end if;
    end loop;
    return null;
end
$$;
