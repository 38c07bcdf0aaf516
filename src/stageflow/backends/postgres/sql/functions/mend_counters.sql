-- Promise: the counters of an open stage of an open job are what its rows add up to, if these cover each task exactly once; an
-- advancement that wrong counters opened too early is taken back, the failure policy is asked again, and a stage of which nothing
-- remains gets its advancement. False, and nothing changed, where they agree already, where the rows themselves are wrong, where
-- somebody is at the early advancement, and for repaired stages (generation above 1), whose older rows stand beside the newer.
-- Locks: the control range, then the stage; then as count_down does. Errors: SF001.
create or replace function stageflow.mend_counters(p_stage_id bigint) returns boolean
language plpgsql volatile as $$
declare
    v_control record;
    v_stage stageflow.stages;
    v_tally record;
    v_status text;
begin
    perform stageflow.require_read_committed();
    select r.range_id, r.kind, r.state into v_control
    from stageflow.ranges r where r.stage_id = p_stage_id and r.kind <> 'task' for update;
    select s.* into v_stage from stageflow.stages s where s.stage_id = p_stage_id for no key update;
    select j.status into v_status from stageflow.jobs j where j.job_id = v_stage.job_id;
    if not found or stageflow.is_closed_stage(v_stage.status) or stageflow.is_ended_job(v_status) or v_stage.generation > 1 then
        return false;
    end if;
    select t.* into v_tally from stageflow.tally_stage(p_stage_id, v_stage.task_count) t;
    if v_tally.o_missing > 0 or v_tally.o_doubled > 0
        or v_tally.o_open + v_tally.o_completed + v_tally.o_failed + v_tally.o_skipped + v_tally.o_cancelled
            <> v_stage.task_count
        or (v_tally.o_open, v_tally.o_completed, v_tally.o_failed, v_tally.o_skipped, v_tally.o_cancelled)
            = (v_stage.remaining, v_stage.successful_tasks, v_stage.failed_tasks, v_stage.skipped_tasks,
                v_stage.cancelled_tasks)
    then
        return false;
    end if;
    if v_tally.o_open > 0 then
        perform 1 from stageflow.ranges r
        where r.stage_id = p_stage_id and r.kind = 'advance'
            and (r.state = 'leased' or r.range_id is distinct from v_control.range_id);
        if found then
            return false;
        end if;
        delete from stageflow.ranges r where r.range_id = v_control.range_id and r.kind = 'advance';
    end if;
    update stageflow.stages s set
        remaining = v_tally.o_open, successful_tasks = v_tally.o_completed, failed_tasks = v_tally.o_failed,
        skipped_tasks = v_tally.o_skipped, cancelled_tasks = v_tally.o_cancelled, updated_at = stageflow.clock()
    where s.stage_id = p_stage_id;
    perform stageflow.count_down(p_stage_id, 0, 0, 0, 0, null, 0);
    perform stageflow.mend_control(p_stage_id);
    return true;
end
$$;
