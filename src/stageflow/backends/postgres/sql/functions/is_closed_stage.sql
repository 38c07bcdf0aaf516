-- Whether a stage with this status is closed. Tested equal to contracts/status.py.
-- Locks: none. Errors: none.
create or replace function stageflow.is_closed_stage(p_status text) returns boolean
language sql immutable parallel safe as $$
    select p_status in ('completed', 'completed_with_errors', 'failed', 'skipped', 'cancelled')
$$;
