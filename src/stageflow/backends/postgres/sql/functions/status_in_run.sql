-- The status of a job as the work of one of its runs sees it. Promise: for a run that a resubmission put behind, the job is
-- cancelled, whatever it does now; so no former run is ever worked on, and none touches the present one.
-- Locks: none. Errors: none.
create or replace function stageflow.status_in_run(p_status text, p_present_run integer, p_run integer) returns text
language sql immutable parallel safe as $$
    select case when p_run = p_present_run then p_status else 'cancelled' end
$$;
