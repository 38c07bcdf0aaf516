-- Promise: what happened to a job is in its history, if the transaction commits. Of details the last 500
-- characters are kept, where a traceback names its error.
-- Locks: none. Errors: none.
create or replace function stageflow.note_event(
    p_job_id text, p_run integer, p_kind text, p_status text default null, p_detail text default null,
    p_stage_number integer default null) returns void
language plpgsql volatile as $$
begin
    insert into stageflow.events (job_id, run, stage_number, kind, status, detail, at)
    values (p_job_id, p_run, p_stage_number, p_kind, p_status, right(p_detail, 500), stageflow.clock());
end
$$;
