-- Promise: the stage that a plan lease names has a deadline from now on, unless it had one; answers whether the lease was held.
-- Locks: the plan range, its stage. Errors: SF001.
create or replace function stageflow.start_stage_clock(p_range_id bigint, p_token bigint, p_seconds double precision)
returns boolean
language plpgsql volatile as $$
declare
    v_stage_id bigint;
begin
    perform stageflow.require_read_committed();
    select r.stage_id into v_stage_id from stageflow.ranges r
    where r.range_id = p_range_id and r.token = p_token
    for update;
    if not found then
        return false;
    end if;
    update stageflow.stages s set deadline = coalesce(s.deadline, stageflow.clock() + make_interval(secs => p_seconds))
    where s.stage_id = v_stage_id;
    return true;
end
$$;
