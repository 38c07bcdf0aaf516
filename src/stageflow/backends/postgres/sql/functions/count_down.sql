-- The barrier, and the one door to it: takes ended tasks off a stage's counters, halts the stage when its policy gives up, and
-- opens its advancement when none remains.
-- Promise: of all calls for a stage exactly one is told o_is_last, and only after planning ended. O(1) in the stage's tasks.
-- Locks: the stage (callers hold their ranges and no stage with a larger id), then ranges of the stage, skipping locked ones.
-- Errors: SF002 for an unknown stage.
create or replace function stageflow.count_down(
    p_stage_id bigint, p_successful integer, p_failed integer, p_skipped integer, p_cancelled integer,
    p_worker_id text, p_lease_seconds double precision,
    out o_job_id text, out o_stage_number integer, out o_remaining integer, out o_halted boolean, out o_is_last boolean,
    out o_advance_range_id bigint)
language plpgsql volatile as $$
declare
    v_stage stageflow.stages;
    v_ended integer := p_successful + p_failed + p_skipped + p_cancelled;
    v_skipped integer := 0;
begin
    update stageflow.stages s set
        remaining = s.remaining - v_ended,
        successful_tasks = s.successful_tasks + p_successful,
        failed_tasks = s.failed_tasks + p_failed,
        skipped_tasks = s.skipped_tasks + p_skipped,
        cancelled_tasks = s.cancelled_tasks + p_cancelled,
        updated_at = stageflow.clock()
    where s.stage_id = p_stage_id
    returning s.* into v_stage;
    if not found then
        raise exception using errcode = 'SF002',
            message = format('there is no stage %s; it was never opened in this database. Check the store''s address.', p_stage_id);
    end if;
    if v_stage.halted
        or (v_stage.fail_fast and v_stage.failed_tasks > 0)
        or (v_stage.planned and v_stage.minimum_success_rate is not null
            and (v_stage.task_count - v_stage.failed_tasks - v_stage.skipped_tasks - v_stage.cancelled_tasks) * 100.0
                < v_stage.minimum_success_rate * v_stage.task_count)
    then
        if not v_stage.halted then
            perform stageflow.note_stage_event(p_stage_id, 'stage_halted');
        end if;
        v_skipped := stageflow.close_ranges(p_stage_id, 'skipped');
        update stageflow.stages s set
            halted = true, remaining = s.remaining - v_skipped, skipped_tasks = s.skipped_tasks + v_skipped
        where s.stage_id = p_stage_id
        returning s.* into v_stage;
    end if;
    o_is_last := false;
    if v_stage.remaining = 0 and v_stage.planned and v_ended + v_skipped > 0 then
        select a.o_open, a.o_range_id into o_is_last, o_advance_range_id
        from stageflow.open_advance(v_stage, p_worker_id, p_lease_seconds) a;
    end if;
    o_job_id := v_stage.job_id;
    o_stage_number := v_stage.stage_number;
    o_remaining := v_stage.remaining;
    o_halted := v_stage.halted;
end
$$;
