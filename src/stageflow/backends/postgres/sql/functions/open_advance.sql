-- Promise: a planned stage whose last task has ended gets its advancement: leased to p_worker_id (or ready, where that is null),
-- held while the job is paused. Returns the range, null where it is not leased or the job has ended (o_open false).
-- Locks: the caller holds the stage; the job FOR SHARE where it looks paused, so that a resume cannot pass by. Errors: none.
create or replace function stageflow.open_advance(
    p_stage stageflow.stages, p_worker_id text, p_lease_seconds double precision, out o_open boolean, out o_range_id bigint)
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_job record;
    v_state text := case when p_worker_id is null then 'ready' else 'leased' end;
begin
    select stageflow.status_in_run(j.status, j.run, p_stage.run) as status, j.priority, stageflow.control_work_type(j.job_type, j.workflow_version) as work_type into v_job
    from stageflow.jobs j where j.job_id = p_stage.job_id;
    if v_job.status = 'paused' then
        select stageflow.status_in_run(j.status, j.run, p_stage.run) into v_job.status
        from stageflow.jobs j where j.job_id = p_stage.job_id for share;
    end if;
    o_open := not stageflow.is_ended_job(v_job.status);
    if not o_open then
        update stageflow.stages s set status = 'cancelled', updated_at = v_now
        where s.stage_id = p_stage.stage_id and not stageflow.is_closed_stage(s.status);
        if found then
            perform stageflow.note_stage_event(p_stage.stage_id, 'stage_closed', 'cancelled');
        end if;
        return;
    end if;
    if v_job.status = 'paused' then
        v_state := 'held';
    end if;
    if v_state = 'ready' then
        perform stageflow.wake_workers(v_job.work_type);
    end if;
    insert into stageflow.ranges (
        stage_id, kind, work_type, generation, first, last, state, priority,
        token, worker_id, lease_expires_at, renewed_at, current_index, current_since, created_at)
    select p_stage.stage_id, 'advance', v_job.work_type, p_stage.generation, 0, 1, v_state, v_job.priority,
        nextval('stageflow.lease_token'), p_worker_id, v_now + make_interval(secs => p_lease_seconds), v_now, 0, v_now,
        v_now
    where v_state = 'leased'
    returning ranges.range_id into o_range_id;
    if v_state <> 'leased' then
        insert into stageflow.ranges (stage_id, kind, work_type, generation, first, last, state, priority, created_at)
        values (p_stage.stage_id, 'advance', v_job.work_type, p_stage.generation, 0, 1, v_state, v_job.priority, v_now);
    end if;
end
$$;
