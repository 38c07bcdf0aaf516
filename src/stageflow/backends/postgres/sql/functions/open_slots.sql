-- After a scope's limits changed. Promise: it has a slot for each task that may run, and each lease that runs has one, also those
-- that were given out while it was not limited; workers look again, and messages are sent again for what is ready.
-- Locks: the caller holds the scope's row; its slots; ready ranges, skipping locked ones. Errors: none.
create or replace function stageflow.open_slots(p_scope text) returns void
language plpgsql volatile as $$
declare
    v_limit stageflow.limits;
    v_lease record;
    v_number integer;
begin
    select l.* into v_limit from stageflow.limits l where l.scope = p_scope;
    if v_limit.max_running is not null then
        insert into stageflow.slots (scope, number)
        select p_scope, n from generate_series(1, v_limit.max_running) as n
        on conflict do nothing;
        perform 1 from stageflow.slots s where s.scope = p_scope order by s.number for update;
        for v_lease in
            select r.range_id, r.token from stageflow.ranges r
            where r.state = 'leased' and r.kind = 'task' and stageflow.type_scope(r.work_type) = p_scope
            order by r.range_id
        loop
            perform 1 from stageflow.slots s
            where s.scope = p_scope and s.range_id = v_lease.range_id and s.token = v_lease.token;
            continue when found;
            select s.number into v_number from stageflow.slots s
            where s.scope = p_scope and stageflow.is_free_slot(s.range_id, s.token) order by s.number limit 1;
            if not found then
                select max(s.number) + 1 into v_number from stageflow.slots s where s.scope = p_scope;
            end if;
            insert into stageflow.slots as s (scope, number, range_id, token)
            values (p_scope, v_number, v_lease.range_id, v_lease.token)
            on conflict (scope, number) do update set range_id = excluded.range_id, token = excluded.token;
        end loop;
    end if;
    if v_limit.paused_at is null then
        update stageflow.ranges r set announced_at = null
        where r.range_id = any (array(
            select f.range_id from stageflow.ranges f
            where f.state = 'ready' and f.announced_at is not null and stageflow.type_scope(f.work_type) = p_scope
            for update skip locked));
        perform pg_notify('stageflow_work', '');
    end if;
end
$$;
