-- Promise: an active, due schedule whose next fire time is the expected one moves on to the next, and the jobs are there, all in
-- one; answers whether this call did it. The lists are those of create_jobs.
-- Locks: the schedule, and those of create_jobs. Errors: SF001, SF004.
create or replace function stageflow.fire_schedule(
    p_name text, p_expected timestamptz, p_next timestamptz, p_last timestamptz,
    p_job_ids text[], p_job_types text[], p_versions integer[], p_total_stages integer[], p_parameters text[], p_metadata text[],
    p_keys text[], p_priorities integer[], p_not_before double precision[],
    p_stage_names text[], p_task_types text[], p_fail_fast boolean[], p_rates double precision[],
    p_max_running integer[], p_deadlines double precision[], p_timeouts double precision[])
returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
begin
    perform stageflow.require_read_committed();
    update stageflow.schedules s set
        next_fire_at = p_next, last_fire_at = coalesce(p_last, s.last_fire_at),
        last_job_id = coalesce(p_job_ids[cardinality(p_job_ids)], s.last_job_id), updated_at = v_now
    where s.name = p_name and s.state = 'active' and s.next_fire_at = p_expected and s.next_fire_at <= v_now;
    if not found then
        return false;
    end if;
    if cardinality(p_job_ids) > 0 then
        perform stageflow.create_jobs(
            p_job_ids, p_job_types, p_versions, p_total_stages, p_parameters, p_metadata, p_keys, p_priorities, p_not_before,
            p_stage_names, p_task_types, p_fail_fast, p_rates, p_max_running, p_deadlines,
            p_timeouts);
    end if;
    return true;
end
$$;
