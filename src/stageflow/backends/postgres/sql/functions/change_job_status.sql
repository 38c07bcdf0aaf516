-- Changes a job's status by an operator's hand, and fields with it (null leaves a field alone).
-- Promise: only what the transition table allows; a resume opens what was held; failing and cancelling close the waiting work
-- (end_job); completing needs every stage of the workflow closed. The same status again changes the fields only. False: there is no such job.
-- Locks: the job; then held ranges, skipping locked ones (who holds one may wait for the job, and recovery opens what was left).
-- Errors: SF001; SF002 where stages are open or failed; SF003 for a forbidden transition.
create or replace function stageflow.change_job_status(
    p_job_id text, p_status text, p_metadata text, p_result_data text, p_error text) returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_job stageflow.jobs;
    v_ended boolean := false;
    v_complete boolean;
begin
    perform stageflow.require_read_committed();
    if p_status in ('failed', 'cancelled') then
        v_ended := stageflow.end_job(p_job_id, p_status, p_error, null, null, null, null, null, null);
    end if;
    select j.* into v_job from stageflow.jobs j where j.job_id = p_job_id for no key update;
    if not found then
        return false;
    end if;
    if not v_ended and p_status <> v_job.status and not p_status = any (stageflow.job_following(v_job.status)) then
        raise exception using errcode = 'SF003', message = format(
            'JobStatus %s cannot become %s; allowed: %s', v_job.status, p_status,
            stageflow.describe_following(v_job.status));
    end if;
    if not v_ended and p_status <> v_job.status and stageflow.is_ended_job(v_job.status) then
        raise exception using errcode = 'SF003', message = format(
            'JobStatus %s becomes %s by resubmit or repair only, which opens a run of its own; use that', v_job.status, p_status);
    end if;
    if p_status <> v_job.status and stageflow.is_ended_job(p_status) then
        select bool_and(stageflow.is_closed_stage(s.status) and s.status <> 'failed') and max(s.group_last) = v_job.total_stages
        into v_complete
        from stageflow.stages s where s.job_id = p_job_id and s.run = v_job.run;
        if v_complete is not true then
            raise exception using errcode = 'SF002', message = format(
                'job %s has open or failed stages, or some that were not opened, and cannot become %s by hand; let it finish: use '
                'check_job_completion.', p_job_id, p_status);
        end if;
        perform pg_notify('stageflow_jobs', p_job_id);
    end if;
    update stageflow.jobs j set
        status = p_status, metadata = coalesce(p_metadata, j.metadata), result_data = coalesce(p_result_data, j.result_data),
        error_details = coalesce(p_error, j.error_details), updated_at = v_now
    where j.job_id = p_job_id;
    if not v_ended and p_status <> v_job.status and (v_job.status = 'paused' or p_status not in ('queued', 'processing')) then
        perform stageflow.note_event(
            p_job_id, v_job.run, case
                when p_status = 'paused' then 'job_paused'
                when stageflow.is_ended_job(p_status) then 'job_ended'
                else 'job_resumed' end, p_status);
    end if;
    if v_job.status = 'paused' and p_status in ('queued', 'processing') then
        perform stageflow.open_held(array(
            select s.stage_id from stageflow.stages s where s.job_id = p_job_id and s.run = v_job.run));
    end if;
    return true;
end
$$;
