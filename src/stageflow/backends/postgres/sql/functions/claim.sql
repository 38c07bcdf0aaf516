-- Leases the best ready ranges of the asked work types: priority, then turn, then age.
-- Promise: a range is leased to one worker; at most p_max_tasks of its type are (one where a worker died on it), the rest stays
-- ready for rivals. Unasked types are never looked at. Answers one row per lease ('work'), or one row that says whether rivals
-- hold what there is ('busy') or there is nothing ('empty', with the seconds until something is due).
-- Locks: ranges, skipping locked ones; then (settle_claim) stages and jobs by id. Errors: SF001.
create or replace function stageflow.claim(
    p_worker_id text, p_work_types text[], p_max_tasks integer[], p_max_leases integer, p_lease_seconds double precision)
returns table (range_id bigint, outcome text, next_due_seconds double precision)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_now timestamptz := stageflow.clock();
    v_types text[] := p_work_types;
    v_limits integer[] := p_max_tasks;
    v_due timestamptz;
    v_head record;
    v_range stageflow.ranges;
    v_guard record;
    v_leased bigint[] := '{}';
    v_busy boolean := false;
    v_stage_ids bigint[] := '{}';
    v_skipped integer[] := '{}';
    v_cancelled integer[] := '{}';
    v_planning boolean[] := '{}';
    v_queued text[] := '{}';
begin
    perform stageflow.require_read_committed();
    if stageflow.next_due(p_work_types) <= v_now then
        perform stageflow.open_due(p_work_types, 16);
    end if;
    while cardinality(v_leased) < p_max_leases loop
        select t.place, t.work_type, t.max_tasks into v_head
        from unnest(v_types, v_limits) with ordinality as t (work_type, max_tasks, place)
        cross join lateral (
            select r.priority, r.turn, r.range_id from stageflow.ranges r
            where r.work_type = t.work_type and r.state = 'ready'
            order by r.priority desc, r.turn, r.range_id limit 1
        ) head
        order by head.priority desc, head.turn, head.range_id
        limit 1;
        exit when not found;
        select r.* into v_range from stageflow.ranges r
        where r.work_type = v_head.work_type and r.state = 'ready'
        order by r.priority desc, r.turn, r.range_id limit 1
        for update skip locked;
        if not found then
            v_busy := true;
            v_types := v_types[:v_head.place - 1] || v_types[v_head.place + 1:];
            v_limits := v_limits[:v_head.place - 1] || v_limits[v_head.place + 1:];
            continue;
        end if;
        select g.* into v_guard from stageflow.admit_range(v_range) g;
        if v_guard.o_admitted then
            v_leased := v_leased || stageflow.lease_range(
                v_range, v_range.first,
                least(v_range.last, v_range.first + case when v_range.suspect then 1 else v_head.max_tasks end),
                p_worker_id, p_lease_seconds);
            if v_guard.o_queued_job_id is not null then
                v_queued := v_queued || v_guard.o_queued_job_id;
            end if;
        end if;
        if v_range.kind = 'plan' or v_guard.o_skipped + v_guard.o_cancelled > 0 then
            v_stage_ids := v_stage_ids || v_range.stage_id;
            v_skipped := v_skipped || v_guard.o_skipped;
            v_cancelled := v_cancelled || v_guard.o_cancelled;
            v_planning := v_planning || (v_range.kind = 'plan' and v_guard.o_admitted);
            v_busy := v_busy or v_guard.o_skipped + v_guard.o_cancelled > 0;  -- that may have opened an advancement
        end if;
    end loop;
    if cardinality(v_stage_ids) + cardinality(v_queued) > 0 then
        perform stageflow.settle_claim(v_stage_ids, v_skipped, v_cancelled, v_planning, v_queued);
    end if;
    if cardinality(v_leased) > 0 then
        return query select l.range_id, 'work', null::double precision from unnest(v_leased) as l (range_id);
    elsif v_busy then
        return query select null::bigint, 'busy', null::double precision;
    else
        v_due := stageflow.next_due(p_work_types);
        return query select null::bigint, 'empty', extract(epoch from greatest(v_due, v_now) - v_now)::double precision
        where v_due is not null
        union all select null, 'empty', null where v_due is null;
    end if;
end
$$;
