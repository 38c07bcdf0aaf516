-- Gives unstarted tails of leases back.
-- Promise: the tail is ready again as it was (with a delay: its next attempt, due after it; closed, where its stage halted or its
-- job ended); returns the places (from 1) whose lease was still held. The lists are parallel.
-- Locks: ranges by id, then stages by id. Errors: SF001.
create or replace function stageflow.return_ranges(
    p_range_ids bigint[], p_tokens bigint[], p_firsts integer[], p_delays double precision[], p_errors text[])
returns setof bigint
language plpgsql volatile as $$
declare
    v_return record;
    v_range stageflow.ranges;
    v_back record;
    v_stage_ids bigint[] := '{}';
    v_skipped integer[] := '{}';
    v_cancelled integer[] := '{}';
begin
    perform stageflow.require_read_committed();
    for v_return in
        select r.* from unnest(p_range_ids, p_tokens, p_firsts, p_delays, p_errors)
            with ordinality as r (range_id, token, first, delay, error, place)
        order by r.range_id, r.first, r.place
    loop
        select r.* into v_range from stageflow.ranges r
        where r.range_id = v_return.range_id and r.token = v_return.token
        for update;
        continue when not found;
        return next v_return.place;
        continue when v_return.first >= v_range.last;
        select b.* into v_back from stageflow.free_range(
            v_range, greatest(v_return.first, v_range.first), v_return.delay, v_return.error) b;
        if v_back.o_skipped + v_back.o_cancelled > 0 then
            v_stage_ids := v_stage_ids || v_range.stage_id;
            v_skipped := v_skipped || v_back.o_skipped;
            v_cancelled := v_cancelled || v_back.o_cancelled;
        end if;
    end loop;
    perform stageflow.settle_claim(v_stage_ids, v_skipped, v_cancelled, array_fill(false, array[cardinality(v_stage_ids)]), '{}');
end
$$;
