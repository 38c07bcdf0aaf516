-- Leases the best ready ranges of the asked work types: priority, then turn, then age; past dead entries that
-- nobody can vacuum (horizons).
-- Promise: a range is leased to one worker; at most p_max_tasks of its type are (one where a worker died on it), the rest stays
-- ready for rivals. With p_bundled, a claim that begins with control work goes on with such work, up to p_max_tasks leases of its
-- type, but for what a worker died on, which is leased by itself. Unasked types are never looked at, and no more are types that are paused or at their limit. Answers one row
-- per lease ('work'), or one row that says whether rivals hold what there is ('busy') or there is nothing ('empty', with the
-- seconds until something is due, or until a limit should be looked at again).
-- Locks: ranges, slots, skipping locked ones; then (settle_claim) stages and jobs by id. Errors: SF001.
create or replace function stageflow.claim(
    p_worker_id text, p_work_types text[], p_max_tasks integer[], p_max_leases integer, p_lease_seconds double precision,
    p_bundled boolean default false)
returns table (range_id bigint, outcome text, next_due_seconds double precision)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_now timestamptz := stageflow.clock();
    v_types text[] := p_work_types;
    v_limits integer[] := p_max_tasks;
    v_due timestamptz;
    -- Where to look on within this call: after the key of the last range of each type.
    v_urgencies integer[];
    v_turns bigint[];
    v_ids bigint[];
    v_hidden boolean;
    v_read bigint := pg_stat_get_xact_tuples_returned('stageflow.ranges_ready'::regclass);
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
    v_limited boolean;
    v_again double precision;
    v_last integer;
    v_taken record;
    v_full bigint[] := '{}';  -- stages of jobs that were met at their limit
    v_most integer := p_max_leases;
    v_alone boolean;
begin
    perform stageflow.require_read_committed();
    if stageflow.next_due(p_work_types) <= v_now then
        perform stageflow.open_due(p_work_types, 16);
    end if;
    select exists (select from stageflow.horizons h where h.work_type = any (p_work_types) and h.valid_until > v_now),
        exists (select from stageflow.limits l)
    into v_hidden, v_limited;
    if v_limited then
        select n.o_work_types, n.o_max_tasks, n.o_again_seconds into v_types, v_limits, v_again
        from stageflow.narrow_claim(v_types, v_limits) n;
    end if;
    v_urgencies := array_fill(-2147483648, array[cardinality(v_types)]);
    v_turns := array_fill(0::bigint, array[cardinality(v_types)]);
    v_ids := array_fill(0::bigint, array[cardinality(v_types)]);
    while cardinality(v_leased) < v_most loop
        if v_hidden then
            select t.place, t.work_type, t.max_tasks, head.* into v_head
            from unnest(v_types, v_limits, v_urgencies, v_turns, v_ids)
                with ordinality as t (work_type, max_tasks, urgency, turn, range_id, place)
            cross join lateral stageflow.next_ready(t.work_type, t.urgency, t.turn, t.range_id) head
            order by head.urgency, head.turn, head.range_id
            limit 1;
        else
            select t.place, t.work_type, t.max_tasks, head.* into v_head
            from unnest(v_types, v_limits, v_urgencies, v_turns, v_ids)
                with ordinality as t (work_type, max_tasks, urgency, turn, range_id, place)
            cross join lateral (
                select -r.priority as urgency, r.turn, r.range_id from stageflow.ranges r
                where r.work_type = t.work_type and r.state = 'ready'
                    and (-r.priority, r.turn, r.range_id) > (t.urgency, t.turn, t.range_id)
                    and r.stage_id <> all (v_full)
                order by -r.priority, r.turn, r.range_id limit 1
            ) head
            order by head.urgency, head.turn, head.range_id
            limit 1;
        end if;
        exit when not found;
        select r.* into v_range from stageflow.ranges r
        where r.work_type = v_head.work_type and r.state = 'ready'
            and (-r.priority, r.turn, r.range_id) >= (v_head.urgency, v_head.turn, v_head.range_id)
            and r.stage_id <> all (v_full)
        order by -r.priority, r.turn, r.range_id limit 1
        for update skip locked;
        if not found then
            v_busy := true;
            v_types := v_types[:v_head.place - 1] || v_types[v_head.place + 1:];
            v_limits := v_limits[:v_head.place - 1] || v_limits[v_head.place + 1:];
            v_urgencies := v_urgencies[:v_head.place - 1] || v_urgencies[v_head.place + 1:];
            v_turns := v_turns[:v_head.place - 1] || v_turns[v_head.place + 1:];
            v_ids := v_ids[:v_head.place - 1] || v_ids[v_head.place + 1:];
            continue;
        end if;
        v_alone := v_range.kind = 'task' or v_range.deaths > 0;
        exit when p_bundled and v_alone and cardinality(v_leased) > 0;
        v_urgencies[v_head.place] := -v_range.priority;
        v_turns[v_head.place] := v_range.turn;
        v_ids[v_head.place] := v_range.range_id;
        select g.* into v_guard from stageflow.admit_range(v_range) g;
        if v_guard.o_admitted then
            v_last := least(v_range.last, v_range.first + case when v_range.suspect then 1 else v_head.max_tasks end);
            if v_limited then
                select l.* into v_taken
                from stageflow.lease_limited(v_range, v_range.first, v_last, p_worker_id, p_lease_seconds) l;
                if v_taken.o_refusal = 'job' then
                    v_again := least(v_again, v_taken.o_again_seconds);
                    v_full := v_full || v_range.stage_id;
                    if cardinality(v_full) > 16 then  -- so many would make each claim long
                        update stageflow.ranges r set state = 'waiting', not_before = v_now + (0.5 + random()) * interval '1 second'
                        where r.range_id = v_range.range_id;
                    end if;
                    continue;
                elsif v_taken.o_refusal is not null then
                    v_again := least(v_again, v_taken.o_again_seconds);
                    v_types[v_head.place] := '';  -- nobody's
                    continue;
                end if;
                v_leased := v_leased || v_taken.o_range_id;
            else
                v_leased := v_leased || stageflow.lease_range(v_range, v_range.first, v_last, p_worker_id, p_lease_seconds);
            end if;
            if p_bundled and not v_alone then
                v_most := v_head.max_tasks;
            end if;
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
    if pg_stat_get_xact_tuples_returned('stageflow.ranges_ready'::regclass) - v_read > 2000 then
        perform stageflow.mark_horizon(t.work_type) from unnest(p_work_types) as t (work_type);
    end if;
    if cardinality(v_stage_ids) + cardinality(v_queued) > 0 then
        perform stageflow.settle_claim(v_stage_ids, v_skipped, v_cancelled, v_planning, v_queued);
    end if;
    if cardinality(v_leased) > 0 then
        return query select l.range_id, 'work', null::double precision from unnest(v_leased) as l (range_id);
    elsif v_busy then
        return query select null::bigint, 'busy', null::double precision;
    else
        v_due := least(stageflow.next_due(p_work_types), v_now + make_interval(secs => v_again));
        return query select null::bigint, 'empty', extract(epoch from greatest(v_due, v_now) - v_now)::double precision
        where v_due is not null
        union all select null, 'empty', null where v_due is null;
    end if;
end
$$;
