-- The heartbeat: raises beat and expiry of the leases that are still held.
-- Promise: answers each token that is held, and whether its holder should stop (its job has ended or its stage has halted).
-- Locks: ranges by id. Errors: SF001.
create or replace function stageflow.extend_leases(
    p_range_ids bigint[], p_tokens bigint[], p_indexes integer[], p_lease_seconds double precision)
returns table (token bigint, stopping boolean)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_now timestamptz := stageflow.clock();
begin
    perform stageflow.require_read_committed();
    return query
    with held as (
        select r.range_id, h.index
        from unnest(p_range_ids, p_tokens, p_indexes) as h (range_id, token, index)
        join stageflow.ranges r on r.range_id = h.range_id and r.token = h.token and r.state = 'leased'
        order by r.range_id
        for update of r
    ), extended as (
        update stageflow.ranges r set
            beat = r.beat + 1, lease_expires_at = v_now + make_interval(secs => p_lease_seconds), renewed_at = v_now,
            current_index = held.index,
            current_since = case when r.current_index is distinct from held.index then v_now else r.current_since end
        from held where r.range_id = held.range_id
        returning r.token, r.stage_id, r.kind
    )
    select e.token, stageflow.is_ended_job(j.status) or (s.halted and e.kind = 'task')
    from extended e
    join stageflow.stages s on s.stage_id = e.stage_id
    join stageflow.jobs j on j.job_id = s.job_id;
end
$$;
