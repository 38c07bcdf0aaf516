-- What a worker must know to plan and advance a job; equal to contracts/ids.py.
-- Locks: none. Errors: none.
create or replace function stageflow.control_work_type(p_job_type text, p_version integer) returns text
language sql immutable strict parallel safe as $$
    select p_job_type || '/' || p_version::text
$$;
