-- The transition table of jobs: which statuses may follow one; empty where nothing does. What
-- follows a status of a job that has ended follows by repair_stage or resubmit_job only. Tested equal to contracts/status.py.
-- Locks: none. Errors: none.
create or replace function stageflow.job_following(p_status text) returns text[]
language sql immutable parallel safe as $$
    select case p_status
        when 'queued' then array['cancelled', 'failed', 'paused', 'processing']
        when 'processing' then array['cancelled', 'completed', 'completed_with_errors', 'failed', 'paused']
        when 'paused' then array['cancelled', 'failed', 'processing', 'queued']
        when 'completed' then array['queued']
        when 'completed_with_errors' then array['queued']
        when 'failed' then array['queued']
        when 'cancelled' then array['queued']
        else '{}'::text[]
    end
$$;
