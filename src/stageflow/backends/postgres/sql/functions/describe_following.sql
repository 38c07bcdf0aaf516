-- Promise: in words, what may follow a job's status. Tested equal to contracts/status.py.
-- Locks: none. Errors: none.
create or replace function stageflow.describe_following(p_status text) returns text
language plpgsql immutable as $$
declare
    v_following text := array_to_string(stageflow.job_following(p_status), ', ');
begin
    if v_following = '' then
        return 'nothing, it is terminal';
    end if;
    return v_following || case
        when p_status in ('failed', 'cancelled') then ', by resubmit, or by repair of one of its stages'
        when stageflow.is_ended_job(p_status)
            then ', by repair of one of its stages; to do all of the work again, submit it as another job (new_run)'
        else '' end;
end
$$;
