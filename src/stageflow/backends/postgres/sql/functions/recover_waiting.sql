-- The rest of a recovery round, at most p_limit of each kind.
-- Promise: what is due is ready, what a resume could not reach is ready, and what was locked while its job ended (within the last
-- ten minutes) or its stage halted is closed. Answers ranges opened and ranges closed.
-- Locks: ranges, skipping locked ones; then stages by id. Errors: SF001.
-- Without bitmaps: only an index scan notes which entries are dead, so that the next round need not look at the rows behind them.
create or replace function stageflow.recover_waiting(p_limit integer, out o_due integer, out o_closed integer)
language plpgsql volatile set enable_bitmapscan = off as $$
declare
    v_now timestamptz := stageflow.clock();
    v_range stageflow.ranges;
    v_guard record;
    v_of_ended bigint[] := '{}';
    v_of_open bigint[] := '{}';
    v_halted bigint[];
    v_job record;
    v_stage record;
    v_stage_ids bigint[] := '{}';
    v_skipped integer[] := '{}';
    v_cancelled integer[] := '{}';
begin
    perform stageflow.require_read_committed();
    o_closed := 0;
    o_due := stageflow.open_due(null, p_limit);
    for v_stage in
        select h.stage_id, stageflow.status_in_run(j.status, j.run, s.run) as status
        from (select distinct r.stage_id from stageflow.ranges r where r.state = 'held') h
        cross join lateral (select s.job_id, s.run from stageflow.stages s where s.stage_id = h.stage_id offset 0) s
        cross join lateral (select j.status, j.run from stageflow.jobs j where j.job_id = s.job_id offset 0) j
        where j.status <> 'paused' or j.run <> s.run
        limit p_limit
    loop
        if stageflow.is_ended_job(v_stage.status) then
            v_of_ended := v_of_ended || v_stage.stage_id;
        else
            v_of_open := v_of_open || v_stage.stage_id;
        end if;
    end loop;
    o_due := o_due + stageflow.open_held(v_of_open);
    for v_job in
        select j.job_id, j.run from stageflow.jobs j
        where j.status in ('failed', 'cancelled') and j.updated_at > v_now - interval '10 minutes'
        order by j.updated_at desc limit p_limit
    loop
        v_of_ended := v_of_ended || array(
            select s.stage_id from stageflow.stages s where s.job_id = v_job.job_id and s.run = v_job.run);
    end loop;
    v_halted := array(
        select s.stage_id from stageflow.stages s
        where s.halted and s.status in ('pending', 'planning', 'processing') limit p_limit);
    for v_range in
        select r.* from stageflow.ranges r
        where r.stage_id = any (v_of_ended || v_halted) and r.state in ('ready', 'waiting', 'held')
            and (r.kind = 'task' or r.stage_id = any (v_of_ended))
        limit p_limit for update skip locked
    loop
        select g.* into v_guard from stageflow.admit_range(v_range) g;
        continue when v_guard.o_admitted;
        o_closed := o_closed + 1;
        if v_guard.o_skipped + v_guard.o_cancelled > 0 then
            v_stage_ids := v_stage_ids || v_range.stage_id;
            v_skipped := v_skipped || v_guard.o_skipped;
            v_cancelled := v_cancelled || v_guard.o_cancelled;
        end if;
    end loop;
    perform stageflow.settle_claim(v_stage_ids, v_skipped, v_cancelled, array_fill(false, array[cardinality(v_stage_ids)]), '{}');
end
$$;
