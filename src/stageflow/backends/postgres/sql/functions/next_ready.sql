-- The key of the best ready range of a work type after a key (its negative priority, turn and id), past what the type's horizon
-- hides.
-- Locks: none. Errors: none.
create or replace function stageflow.next_ready(
    p_work_type text, p_urgency integer, p_turn bigint, p_range_id bigint)
returns table (urgency integer, turn bigint, range_id bigint)
language plpgsql volatile rows 1 as $$
#variable_conflict use_column
declare
    v_horizon stageflow.horizons;
begin
    select h.* into v_horizon from stageflow.horizons h
    where h.work_type = p_work_type and h.valid_until > stageflow.clock();
    if found then
        -- What comes before the hidden part: in two statements, and only where there can be something, because a comparison of
        -- rows does not end a scan where it fails.
        if p_urgency < v_horizon.urgency then
            return query
            select -r.priority, r.turn, r.range_id from stageflow.ranges r
            where r.work_type = p_work_type and r.state = 'ready'
                and (-r.priority, r.turn, r.range_id) > (p_urgency, p_turn, p_range_id)
                and -r.priority < v_horizon.urgency
            order by -r.priority, r.turn, r.range_id limit 1;
            if found then
                return;
            end if;
        end if;
        if (p_urgency, p_turn) < (v_horizon.urgency, v_horizon.turn) then
            return query
            select -r.priority, r.turn, r.range_id from stageflow.ranges r
            where r.work_type = p_work_type and r.state = 'ready'
                and (-r.priority, r.turn, r.range_id) > (p_urgency, p_turn, p_range_id)
                and -r.priority = v_horizon.urgency and r.turn < v_horizon.turn
            order by -r.priority, r.turn, r.range_id limit 1;
            if found then
                return;
            end if;
        end if;
        if (v_horizon.urgency, v_horizon.turn, v_horizon.range_id) > (p_urgency, p_turn, p_range_id) then
            p_urgency := v_horizon.urgency;
            p_turn := v_horizon.turn;
            p_range_id := v_horizon.range_id;
        end if;
    end if;
    return query
    select -r.priority, r.turn, r.range_id from stageflow.ranges r
    where r.work_type = p_work_type and r.state = 'ready'
        and (-r.priority, r.turn, r.range_id) > (p_urgency, p_turn, p_range_id)
    order by -r.priority, r.turn, r.range_id limit 1;
end
$$;
