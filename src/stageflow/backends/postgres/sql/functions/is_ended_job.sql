-- Whether a job with this status has ended. Tested equal to contracts/status.py.
-- Locks: none. Errors: none.
create or replace function stageflow.is_ended_job(p_status text) returns boolean
language sql immutable parallel safe as $$
    select p_status in ('completed', 'completed_with_errors', 'failed', 'cancelled')
$$;
