-- Promise: the job has failed as by end_job, if it is in the given run and it or one of its open stages is late by the store's
-- clock; answers whether this call ended it.
-- Locks: those of end_job. Errors: SF001, 40001 where the job was resubmitted meanwhile (call again).
create or replace function stageflow.end_overdue(p_job_id text, p_run integer, p_error text) returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_ended boolean;
begin
    perform stageflow.require_read_committed();
    perform 1 from stageflow.jobs j
    where j.job_id = p_job_id and j.run = p_run and (
        (j.deadline <= v_now) is true or exists (
            select 1 from stageflow.stages s
            where s.job_id = p_job_id and s.run = p_run and (s.deadline <= v_now) is true
                and (not stageflow.is_closed_stage(s.status)) is true));
    if not found then
        return false;
    end if;
    v_ended := stageflow.end_job(p_job_id, 'failed', p_error, null, null, null, null, null, null);
    perform 1 from stageflow.jobs j where j.job_id = p_job_id and j.run = p_run;
    if not found then
        raise exception using errcode = '40001', message = format('job %s was resubmitted just now', p_job_id);
    end if;
    return v_ended;
end
$$;
