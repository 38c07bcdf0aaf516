-- The rest of a recovery round, at most p_limit of each kind.
-- Promise: what is due is ready, what a resume could not reach is ready, and what was locked while its job ended (within the last
-- ten minutes) or its stage halted is closed. Answers ranges opened and ranges closed.
-- Locks: ranges, skipping locked ones; then stages by id. Errors: SF001.
create or replace function stageflow.recover_waiting(p_limit integer, out o_due integer, out o_closed integer)
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_range stageflow.ranges;
    v_guard record;
    v_stage_ids bigint[] := '{}';
    v_skipped integer[] := '{}';
    v_cancelled integer[] := '{}';
begin
    perform stageflow.require_read_committed();
    o_closed := 0;
    o_due := stageflow.open_due(null, p_limit);
    o_due := o_due + stageflow.open_held(array(
        select r.range_id from stageflow.ranges r
        join stageflow.stages s on s.stage_id = r.stage_id
        join stageflow.jobs j on j.job_id = s.job_id
        where r.state = 'held' and j.status in ('queued', 'processing') and (s.planned or r.kind <> 'task')
        limit p_limit for update of r skip locked));
    for v_range in
        select r.* from (
            select open.range_id from stageflow.jobs j
            join stageflow.stages s on s.job_id = j.job_id and s.run = j.run
            join stageflow.ranges open on open.stage_id = s.stage_id and open.state in ('ready', 'waiting', 'held')
            where j.status in ('failed', 'cancelled') and j.updated_at > v_now - interval '10 minutes'
            union
            select open.range_id from stageflow.stages s
            join stageflow.ranges open on open.stage_id = s.stage_id and open.kind = 'task'
                and open.state in ('ready', 'waiting', 'held')
            where s.halted and s.status in ('pending', 'planning', 'processing')
            union
            select held.range_id from stageflow.ranges held
            join stageflow.stages s on s.stage_id = held.stage_id
            join stageflow.jobs j on j.job_id = s.job_id
            where held.state = 'held' and stageflow.is_ended_job(j.status)
        ) left_over
        join stageflow.ranges r on r.range_id = left_over.range_id and r.state in ('ready', 'waiting', 'held')
        limit p_limit for update of r skip locked
    loop
        select g.* into v_guard from stageflow.admit_range(v_range) g;
        if not v_guard.o_admitted and v_range.kind <> 'task' then
            o_closed := o_closed + 1;
        elsif v_guard.o_skipped + v_guard.o_cancelled > 0 then
            o_closed := o_closed + 1;
            v_stage_ids := v_stage_ids || v_range.stage_id;
            v_skipped := v_skipped || v_guard.o_skipped;
            v_cancelled := v_cancelled || v_guard.o_cancelled;
        end if;
    end loop;
    perform stageflow.settle_claim(v_stage_ids, v_skipped, v_cancelled, array_fill(false, array[cardinality(v_stage_ids)]), '{}');
end
$$;
