-- Promise: what happened to a stage, or to tasks of it within [p_first, p_last), is in its job's history, if the transaction
-- commits. Nothing for a stage that is not there. Of details the last 500 characters are kept, where a traceback names its error.
-- Locks: none. Errors: none.
create or replace function stageflow.note_stage_event(
    p_stage_id bigint, p_kind text, p_status text default null, p_first integer default null, p_last integer default null,
    p_tasks integer default null, p_attempt integer default null, p_worker_id text default null, p_detail text default null)
returns void
language plpgsql volatile as $$
begin
    insert into stageflow.events (
        job_id, run, stage_number, generation, kind, status, first, last, tasks, attempt, worker_id, detail, at)
    select s.job_id, s.run, s.stage_number, s.generation, p_kind, p_status, p_first, p_last, p_tasks, p_attempt,
        nullif(p_worker_id, ''), right(p_detail, 500), stageflow.clock()
    from stageflow.stages s where s.stage_id = p_stage_id;
end
$$;
