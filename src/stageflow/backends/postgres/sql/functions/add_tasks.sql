-- Writes a chunk of a stage's tasks and their ranges.
-- Promise: only the holder of the plan lease adds tasks, and only from the stage's task_count on. Before the final chunk the
-- barrier stays up; the final one ends the planning, opens what was held back, and where nothing remains opens the advancement.
-- Without p_wake nobody is told of the new work: its planner takes all of it. Answers recorded, stale, paused or job_ended; in the
-- last three cases nothing was written but the plan's own range.
-- Locks: the plan range, the stage, the job FOR SHARE where it looks paused. Errors: SF001, SF002, SF005 for a key that is there.
create or replace function stageflow.add_tasks(
    p_range_id bigint, p_token bigint, p_stage_id bigint, p_first_index integer, p_parameters text[], p_keys text[],
    p_digest text, p_final boolean, p_claimable boolean, p_range_count integer, p_replace boolean, p_wake boolean default true)
returns text
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_stage stageflow.stages;
    v_job record;
    v_count integer := cardinality(p_parameters);
    v_kind text;
    v_worker_id text;
    v_held text[] := array['held'];
    v_work_type text;
    v_turn bigint;
    v_pieces integer := greatest(1, case when p_claimable then least(p_range_count, v_count) else 1 end);
begin
    perform stageflow.require_read_committed();
    select r.kind, r.worker_id into v_kind, v_worker_id from stageflow.ranges r
    where r.range_id = p_range_id and r.token = p_token and r.stage_id = p_stage_id
    for update;
    if v_kind is distinct from 'plan' then
        return 'stale';
    end if;
    select s.* into v_stage from stageflow.stages s where s.stage_id = p_stage_id for no key update;
    select stageflow.status_in_run(j.status, j.run, v_stage.run) as status, j.job_type, j.workflow_version, j.priority into v_job
    from stageflow.jobs j where j.job_id = v_stage.job_id;
    if v_job.status = 'paused' then
        select stageflow.status_in_run(j.status, j.run, v_stage.run) into v_job.status
        from stageflow.jobs j where j.job_id = v_stage.job_id for share;
    end if;
    if v_job.status = 'paused' then
        update stageflow.ranges r set state = 'held', token = null, worker_id = null, lease_expires_at = null
        where r.range_id = p_range_id;
        return 'paused';
    elsif stageflow.is_ended_job(v_job.status) then
        delete from stageflow.ranges r where r.range_id = p_range_id;
        update stageflow.stages s set status = 'cancelled', updated_at = v_now
        where s.stage_id = p_stage_id and not stageflow.is_closed_stage(s.status);
        if found then
            perform stageflow.note_stage_event(p_stage_id, 'stage_closed', 'cancelled');
        end if;
        return 'job_ended';
    end if;
    if p_replace then
        v_stage.task_count := 0;
        perform stageflow.forget_tasks(p_stage_id);
    end if;
    if v_stage.task_count <> p_first_index then
        raise exception using errcode = 'SF002', message = format(
            'the chunk begins at task %s but stage %s has %s tasks; go on from there.', p_first_index, p_stage_id,
            v_stage.task_count);
    end if;
    v_work_type := stageflow.task_work_type(v_job.job_type, v_job.workflow_version, v_stage.task_type);
    if p_wake and ((p_claimable and v_count > 0) or p_final) then
        perform stageflow.wake_workers(v_work_type);
    end if;
    if v_count > 0 then
        perform stageflow.insert_tasks(p_stage_id, p_first_index, p_parameters, p_keys);
        select h.turn into v_turn from stageflow.next_ready(v_work_type, -v_job.priority, -1, 0) h
        where h.urgency = -v_job.priority;
        insert into stageflow.ranges (
            stage_id, kind, work_type, generation, first, last, state, priority, turn, stride, created_at)
        select p_stage_id, 'task', v_work_type, v_stage.generation,
            p_first_index + (v_count::bigint * piece / v_pieces)::integer,
            p_first_index + (v_count::bigint * (piece + 1) / v_pieces)::integer,
            case when p_claimable then 'ready' else 'held' end, v_job.priority, coalesce(v_turn, 0) + v_stage.range_count + piece, v_stage.range_count + v_pieces, v_now
        from generate_series(0, v_pieces - 1) as piece;
    end if;
    update stageflow.stages s set
        task_count = s.task_count + v_count, remaining = s.remaining + v_count,
        range_count = s.range_count + case when v_count > 0 then v_pieces else 0 end, plan_digest = p_digest, planned = p_final,
        status = case when p_final then 'processing' else 'planning' end, updated_at = v_now
    where s.stage_id = p_stage_id
    returning s.* into v_stage;
    if p_final then
        insert into stageflow.events (job_id, run, stage_number, generation, kind, first, last, tasks, worker_id, at)
        values (
            v_stage.job_id, v_stage.run, v_stage.stage_number, v_stage.generation, 'stage_planned', 0, v_stage.task_count,
            v_stage.task_count, v_worker_id, v_now);
        delete from stageflow.ranges r where r.range_id = p_range_id;
        update stageflow.ranges r set state = 'ready', announced_at = null
        where r.stage_id = p_stage_id and r.kind = 'task' and r.state = any (v_held);
        if v_stage.remaining = 0 then
            perform stageflow.open_advance(v_stage, null, 0);
        end if;
    end if;
    return 'recorded';
end
$$;
