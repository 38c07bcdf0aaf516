-- The guard of every claim. Promise: a ready range (locked by the caller) of an ended job or a halted stage is closed, that of a
-- paused job held; o_admitted says that none of this happened. What is to be taken off the stage's counters is answered, so that
-- the caller can do it after all its ranges, in stage order.
-- Locks: the caller holds the range; the job FOR SHARE where it looks paused, so that a resume cannot pass by. Errors: none.
create or replace function stageflow.admit_range(
    p_range stageflow.ranges,
    out o_admitted boolean, out o_skipped integer, out o_cancelled integer, out o_queued_job_id text)
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_found record;
    v_state text;
begin
    o_admitted := false;
    o_skipped := 0;
    o_cancelled := 0;
    select s.halted, s.job_id, s.run, stageflow.status_in_run(j.status, j.run, s.run) as status into v_found
    from stageflow.stages s
    cross join lateral (select j.status, j.run from stageflow.jobs j where j.job_id = s.job_id offset 0) j
    where s.stage_id = p_range.stage_id;
    if v_found.status = 'paused' then
        select stageflow.status_in_run(j.status, j.run, v_found.run) into v_found.status
        from stageflow.jobs j where j.job_id = v_found.job_id for share;
    end if;
    if v_found.status = 'paused' then
        update stageflow.ranges r set state = 'held', not_before = null where r.range_id = p_range.range_id;
    elsif stageflow.is_ended_job(v_found.status) and p_range.kind <> 'task' then
        delete from stageflow.ranges r where r.range_id = p_range.range_id;
    elsif stageflow.is_ended_job(v_found.status) or (v_found.halted and p_range.kind = 'task') then
        v_state := case when stageflow.is_ended_job(v_found.status) then 'cancelled' else 'skipped' end;
        update stageflow.ranges r set state = v_state, closed_at = v_now, not_before = null
        where r.range_id = p_range.range_id;
        perform stageflow.note_stage_event(
            p_range.stage_id, 'tasks_' || v_state, null, p_range.first, p_range.last, p_range.last - p_range.first);
        if v_state = 'cancelled' then
            o_cancelled := p_range.last - p_range.first;
        else
            o_skipped := p_range.last - p_range.first;
        end if;
    else
        o_admitted := true;
        if v_found.status = 'queued' then
            o_queued_job_id := v_found.job_id;
        end if;
    end if;
end
$$;
