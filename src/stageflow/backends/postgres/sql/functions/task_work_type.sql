-- What a worker must know to run a stage's tasks; equal to contracts/ids.py.
-- Locks: none. Errors: none.
create or replace function stageflow.task_work_type(p_job_type text, p_version integer, p_task_type text) returns text
language sql immutable strict parallel safe as $$
    select p_job_type || '/' || p_version::text || '/' || p_task_type
$$;
