-- Ends a job whose stages are all closed; without a token it only looks.
-- Promise: under the job's row lock, and by the holder of the advance lease only: the last stage's result and the stages that are
-- skipped are stored, and if every stage of the run is closed the job has ended, once. A paused job's work is held, an ended job's
-- dropped.
-- Locks: the advance range, the stage, the job. Errors: SF001, SF002 (a failed stage lets no job complete).
create or replace function stageflow.check_job_completion(
    p_job_id text, p_range_id bigint, p_token bigint, p_stage_id bigint, p_status text, p_result text, p_result_data text,
    p_numbers integer[], p_names text[], p_task_types text[], p_fail_fast boolean[], p_rates double precision[],
    p_group_firsts integer[], p_group_lasts integer[], p_skipped_results text[],
    out o_complete boolean, out o_updated boolean, out o_status text, out o_final_stage integer, out o_final_stage_id bigint,
    out o_total integer, out o_successful integer, out o_failed integer)
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_job stageflow.jobs;
    v_holds boolean := false;
    v_stage_id bigint;
    v_kind text;
    v_run integer;
    v_failed_stage integer;
begin
    perform stageflow.require_read_committed();
    o_updated := false;
    if p_token is not null then
        select r.stage_id, r.kind into v_stage_id, v_kind from stageflow.ranges r
        where r.range_id = p_range_id and r.token = p_token
        for update;
        select s.run into v_run from stageflow.stages s where s.stage_id = v_stage_id and s.job_id = p_job_id;
        v_holds := found and v_kind = 'advance';
    end if;
    if v_holds then
        if p_stage_id is not null then
            perform 1 from stageflow.stages s where s.stage_id = p_stage_id and s.job_id = p_job_id for no key update;
            if not found then
                raise exception using errcode = 'SF002',
                    message = format('stage %s is none of job %s; report the stage that was leased.', p_stage_id, p_job_id);
            end if;
        end if;
        select j.* into v_job from stageflow.jobs j where j.job_id = p_job_id for no key update;
        v_job.status := stageflow.status_in_run(v_job.status, v_job.run, v_run);
        if v_job.status = 'paused' then
            update stageflow.ranges r set state = 'held', token = null, worker_id = null, lease_expires_at = null
            where r.range_id = p_range_id;
            v_holds := false;
        elsif stageflow.is_ended_job(v_job.status) then
            delete from stageflow.ranges r where r.range_id = p_range_id;
            v_holds := false;
        else
            if p_stage_id is not null and p_result is not null then
                perform stageflow.close_stage(p_stage_id, p_status, p_result);
            end if;
            if cardinality(p_numbers) > 0 then
                perform stageflow.open_stages(
                    p_job_id, p_numbers, p_names, p_task_types, p_fail_fast, p_rates, p_group_firsts, p_group_lasts,
                    p_skipped_results, null, 0);
            end if;
        end if;
    end if;
    select j.* into v_job from stageflow.jobs j where j.job_id = p_job_id;
    if not found then
        return;
    end if;
    select coalesce(bool_and(stageflow.is_closed_stage(s.status)), false) and max(s.group_last) = v_job.total_stages,
        coalesce(max(s.stage_number) filter (where stageflow.is_closed_stage(s.status)), 0),
        coalesce(sum(s.task_count) filter (where stageflow.is_closed_stage(s.status)), 0),
        coalesce(sum(s.successful_tasks) filter (where stageflow.is_closed_stage(s.status)), 0),
        coalesce(sum(s.failed_tasks) filter (where stageflow.is_closed_stage(s.status)), 0),
        case when bool_or(s.status = 'completed_with_errors') then 'completed_with_errors' else 'completed' end,
        min(s.stage_number) filter (where s.status = 'failed')
    into o_complete, o_final_stage, o_total, o_successful, o_failed, o_status, v_failed_stage
    from stageflow.stages s where s.job_id = p_job_id and s.run = v_job.run;
    if v_holds and o_complete and v_failed_stage is not null then
        raise exception using errcode = 'SF002', message = format(
            'stage %s of job %s failed, so the job cannot complete; end it as failed with end_job.', v_failed_stage, p_job_id);
    end if;
    select coalesce(s.taken_from, s.stage_id) into o_final_stage_id from stageflow.stages s
    where s.job_id = p_job_id and s.run = v_job.run and s.stage_number = o_final_stage;
    if v_holds and o_complete then
        update stageflow.jobs j set status = o_status, result_data = p_result_data, updated_at = v_now where j.job_id = p_job_id;
        delete from stageflow.ranges r where r.range_id = p_range_id;
        perform stageflow.note_event(p_job_id, v_job.run, 'job_ended', o_status);
        perform pg_notify('stageflow_jobs', p_job_id);
        o_updated := true;
    else
        o_status := v_job.status;
    end if;
end
$$;
