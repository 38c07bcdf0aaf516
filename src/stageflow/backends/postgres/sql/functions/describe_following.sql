-- Promise: in words, what may follow a job's status. Tested equal to contracts/status.py.
-- Locks: none. Errors: none.
create or replace function stageflow.describe_following(p_status text) returns text
language plpgsql immutable as $$
declare
    v_following text := array_to_string(stageflow.job_following(p_status), ', ');
begin
    if v_following = '' then
        return 'nothing, it is terminal: to do the work again, submit it as another job (new_run)';
    end if;
    return v_following || case when stageflow.is_ended_job(p_status) then ', by resubmit' else '' end;
end
$$;
