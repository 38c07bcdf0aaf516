-- How many tasks of a scope a lease may hold now, at most p_max_tasks; 0 for none, with the seconds after which to look again (null
-- where somebody tells: a pause). A hundredth of a second's worth of a rate and at least one, so that what was granted starts at
-- once. Looks only: it spares claims the way to ranges that they could not lease.
-- Locks: none. Errors: none.
create or replace function stageflow.allowed_tasks(
    p_limit stageflow.limits, p_max_tasks integer, out o_tasks integer, out o_again_seconds double precision)
language plpgsql volatile as $$
declare
    v_granted double precision;
begin
    o_tasks := p_max_tasks;
    if p_limit.paused_at is not null then
        o_tasks := 0;
        return;
    end if;
    if p_limit.max_per_second is not null then
        v_granted := stageflow.granted_starts(p_limit.spent_at, p_limit.max_per_second);
        o_tasks := floor(least(o_tasks, v_granted, greatest(1.0, p_limit.max_per_second / 100)));
        if o_tasks < 1 then
            o_tasks := 0;
            o_again_seconds := greatest(0.01, (1 - v_granted) / p_limit.max_per_second);
            return;
        end if;
    end if;
    if p_limit.max_running is not null then
        perform 1 from stageflow.slots s
        where s.scope = p_limit.scope and s.number <= p_limit.max_running and stageflow.is_free_slot(s.range_id, s.token)
        limit 1;
        if not found then
            o_tasks := 0;
            -- Whoever frees a slot claims again at once; this is for slots whose worker turns to other work, or dies.
            o_again_seconds := 0.1 + random() * 0.2;
        end if;
    end if;
end
$$;
