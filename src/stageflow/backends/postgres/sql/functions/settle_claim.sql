-- The end of a claim, after all its ranges. Promise: what was closed on the way is taken off the counters, planned stages are in
-- planning, and queued jobs in processing, their timeouts counting from now. The first four lists are parallel.
-- Locks: stages by id, then jobs by id. Errors: none.
create or replace function stageflow.settle_claim(
    p_stage_ids bigint[], p_skipped integer[], p_cancelled integer[], p_planning boolean[], p_queued_job_ids text[]) returns void
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_stage record;
    v_job_id text;
begin
    for v_stage in
        select c.stage_id, sum(c.skipped)::integer as skipped, sum(c.cancelled)::integer as cancelled,
            bool_or(c.planning) as planning
        from unnest(p_stage_ids, p_skipped, p_cancelled, p_planning) as c (stage_id, skipped, cancelled, planning)
        group by c.stage_id
        order by c.stage_id
    loop
        if v_stage.skipped + v_stage.cancelled > 0 then
            perform stageflow.count_down(v_stage.stage_id, 0, 0, v_stage.skipped, v_stage.cancelled, null, 0);
        end if;
        if v_stage.planning then
            update stageflow.stages s set status = 'planning', updated_at = v_now
            where s.stage_id = v_stage.stage_id and s.status = 'pending';
        end if;
    end loop;
    for v_job_id in select distinct q.job_id from unnest(p_queued_job_ids) as q (job_id) order by q.job_id loop
        update stageflow.jobs j set
            status = 'processing', updated_at = v_now,
            deadline = least(j.deadline, v_now + make_interval(secs => j.timeout_seconds))
        where j.job_id = v_job_id and (j.status = 'queued') is true;  -- not to be found by its status
    end loop;
end
$$;
