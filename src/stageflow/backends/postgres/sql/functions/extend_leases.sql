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
    v_lease record;
    v_stage_id bigint;
    v_kind text;
begin
    perform stageflow.require_read_committed();
    for v_lease in
        select h.* from unnest(p_range_ids, p_tokens, p_indexes) as h (range_id, token, index) order by h.range_id
    loop
        update stageflow.ranges r set
            beat = r.beat + 1, lease_expires_at = v_now + make_interval(secs => p_lease_seconds), renewed_at = v_now,
            current_index = v_lease.index,
            current_since = case when r.current_index is distinct from v_lease.index then v_now else r.current_since end
        where r.range_id = v_lease.range_id and r.token = v_lease.token
        returning r.stage_id, r.kind into v_stage_id, v_kind;
        continue when not found;
        return query
        select v_lease.token,
            stageflow.is_ended_job(stageflow.status_in_run(j.status, j.run, s.run)) or (s.halted and v_kind = 'task')
        from stageflow.stages s
        cross join lateral (select j.status, j.run from stageflow.jobs j where j.job_id = s.job_id offset 0) j
        where s.stage_id = v_stage_id;
    end loop;
end
$$;
