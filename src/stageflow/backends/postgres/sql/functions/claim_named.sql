-- Leases what is ready of the work that a message names: one range, the lowest.
-- Promise: only control work of that stage (its run says which one), or tasks of that generation that overlap [p_first, p_last),
-- cut to it and to p_max_tasks; the rest stays ready and is announced again. Without a lease the answer says why: 'busy' (locked by
-- a rival), 'leased', 'held' (paused, at its limit, or due in so many seconds), 'done' (nothing of it is left, or it is unknown).
-- Locks: ranges, slots, skipping locked ones; then (settle_claim) the stage and the job. Errors: SF001.
create or replace function stageflow.claim_named(
    p_worker_id text, p_job_id text, p_run integer, p_stage_number integer, p_generation integer, p_kinds text[],
    p_work_types text[], p_first integer, p_last integer, p_max_tasks integer, p_lease_seconds double precision)
returns table (range_id bigint, outcome text, next_due_seconds double precision)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_now timestamptz := stageflow.clock();
    v_stage_id bigint;
    v_range stageflow.ranges;
    v_guard record;
    v_first integer;
    v_last integer;
    v_leased bigint;
    v_found record;
    v_limited boolean;
    v_taken record;
begin
    perform stageflow.require_read_committed();
    select s.stage_id into v_stage_id from stageflow.stages s
    where s.job_id = p_job_id and s.run = p_run and s.stage_number = p_stage_number;
    perform 1 from stageflow.limits l limit 1;
    v_limited := found;
    while v_leased is null loop
        select r.* into v_range from stageflow.ranges r
        where r.stage_id = v_stage_id and r.kind = any (p_kinds) and r.work_type = any (p_work_types)
            and (r.state = 'ready' or (r.state = 'waiting' and r.not_before <= v_now))
            and (r.kind <> 'task' or (r.generation = p_generation and r.first < p_last and r.last > p_first))
        order by r.first limit 1
        for update skip locked;
        exit when not found;
        select g.* into v_guard from stageflow.admit_range(v_range) g;
        if v_guard.o_admitted then
            v_first := case when v_range.kind = 'task' then greatest(v_range.first, p_first) else v_range.first end;
            v_last := case when v_range.kind = 'task' then least(v_range.last, p_last) else v_range.last end;
            v_last := least(v_last, v_first + case when v_range.suspect then 1 else p_max_tasks end);
            if v_limited then
                select l.* into v_taken from stageflow.lease_limited(v_range, v_first, v_last, p_worker_id, p_lease_seconds) l;
                if v_taken.o_refusal is not null then
                    -- A resumed type is announced again. For the rest a slot or a start is there soon: it is announced when due.
                    update stageflow.ranges r set
                        state = 'waiting', announced_at = null,
                        not_before = v_now + make_interval(secs => v_taken.o_again_seconds)
                    where r.range_id = v_range.range_id and v_taken.o_refusal <> 'paused';
                    return query select null::bigint, 'held', v_taken.o_again_seconds;
                    return;
                end if;
                v_leased := v_taken.o_range_id;
            else
                v_leased := stageflow.lease_range(v_range, v_first, v_last, p_worker_id, p_lease_seconds);
            end if;
        end if;
        if not v_guard.o_admitted or v_range.kind = 'plan' or v_guard.o_queued_job_id is not null then
            perform stageflow.settle_claim(
                array[v_stage_id], array[v_guard.o_skipped], array[v_guard.o_cancelled],
                array[v_range.kind = 'plan' and v_guard.o_admitted], array_remove(array[v_guard.o_queued_job_id], null));
        end if;
    end loop;
    if v_leased is not null then
        return query select v_leased, 'work', null::double precision;
        return;
    end if;
    select bool_or(r.state = 'ready' or (r.state = 'waiting' and r.not_before <= v_now)) as ready,
        bool_or(r.state = 'leased') as leased, bool_or(r.state in ('waiting', 'held')) as held,
        min(r.not_before) as due
    into v_found
    from stageflow.ranges r
    where r.stage_id = v_stage_id and r.kind = any (p_kinds) and r.work_type = any (p_work_types)
        and r.state in ('ready', 'leased', 'waiting', 'held')
        and (r.kind <> 'task' or (r.generation = p_generation and r.first < p_last and r.last > p_first));
    return query select null::bigint,
        case when v_found.ready then 'busy' when v_found.leased then 'leased' when v_found.held then 'held' else 'done' end,
        extract(epoch from v_found.due - v_now)::double precision;
end
$$;
