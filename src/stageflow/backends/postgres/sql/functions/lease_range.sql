-- Promise: [p_first, p_last) of a ready range becomes a lease with a fresh token; what lies after and before stays ready, moves on
-- by its stride (so that a stage has about one range a turn, and stages share alike), and is to be announced again. Returns the
-- leased row.
-- Locks: the caller holds the range. Errors: none.
create or replace function stageflow.lease_range(
    p_range stageflow.ranges, p_first integer, p_last integer, p_worker_id text, p_lease_seconds double precision)
returns bigint
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_expires timestamptz := v_now + make_interval(secs => p_lease_seconds);
    v_range_id bigint;
begin
    if p_first = p_range.first and p_last = p_range.last then
        update stageflow.ranges r set
            state = 'leased', token = nextval('stageflow.lease_token'), worker_id = p_worker_id, lease_expires_at = v_expires,
            renewed_at = v_now,
            not_before = null, current_index = p_first, current_since = v_now, beat = 0
        where r.range_id = p_range.range_id;
        return p_range.range_id;
    end if;
    if p_last < p_range.last then
        update stageflow.ranges r set
            first = p_last, turn = r.turn + r.stride, state = 'ready', not_before = null, announced_at = null, deaths = 0
        where r.range_id = p_range.range_id;
    end if;
    if p_first > p_range.first and p_last = p_range.last then
        update stageflow.ranges r set
            last = p_first, turn = r.turn + r.stride, state = 'ready', not_before = null, announced_at = null, deaths = 0
        where r.range_id = p_range.range_id;
    elsif p_first > p_range.first then
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, suspect, error_details,
            checkpointed, created_at)
        values (
            p_range.stage_id, p_range.kind, p_range.work_type, p_range.generation, p_range.first, p_first, p_range.attempt,
            'ready', p_range.priority, p_range.turn + p_range.stride, p_range.suspect, p_range.error_details,
            p_range.checkpointed, v_now);
    end if;
    insert into stageflow.ranges (
        stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, suspect, error_details, checkpointed,
        token, worker_id, lease_expires_at, renewed_at, current_index, current_since, created_at)
    values (
        p_range.stage_id, p_range.kind, p_range.work_type, p_range.generation, p_first, p_last, p_range.attempt,
        'leased', p_range.priority, p_range.turn, p_range.suspect, p_range.error_details, p_range.checkpointed,
        nextval('stageflow.lease_token'), p_worker_id, v_expires, v_now, p_first, v_now, v_now)
    returning ranges.range_id into v_range_id;
    return v_range_id;
end
$$;
