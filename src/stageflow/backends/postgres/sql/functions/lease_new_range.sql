-- Promise: of the tasks that this transaction has just added to a stage, those from p_first on, at most p_max_tasks, are leased to
-- p_worker_id; returns the range, or null where there is none to be had (no task, a halted stage, a range that is held, a type or job at its
-- limit: then workers are told).
-- Locks: the caller holds the stage (add_tasks); a range that nobody else can see; slots, skipping locked ones. Errors: none.
create or replace function stageflow.lease_new_range(
    p_stage_id bigint, p_first integer, p_worker_id text, p_max_tasks integer, p_lease_seconds double precision) returns bigint
language plpgsql volatile as $$
declare
    v_range stageflow.ranges;
    v_halted boolean;
    v_last integer;
    v_range_id bigint;
begin
    select s.halted into v_halted from stageflow.stages s where s.stage_id = p_stage_id;
    select r.* into v_range from stageflow.ranges r where r.stage_id = p_stage_id and r.first = p_first
    order by r.kind = 'task' desc limit 1;  -- the plan's own range begins at 0 too
    if not found or v_halted or v_range.kind <> 'task' or v_range.state <> 'ready' then
        return null;
    end if;
    v_last := least(v_range.last, v_range.first + p_max_tasks);
    perform 1 from stageflow.limits l limit 1;
    if not found then
        return stageflow.lease_range(v_range, v_range.first, v_last, p_worker_id, p_lease_seconds);
    end if;
    select l.o_range_id into v_range_id
    from stageflow.lease_limited(v_range, v_range.first, v_last, p_worker_id, p_lease_seconds) l;
    if v_range_id is null then
        perform pg_notify('stageflow_work', '');
    end if;
    return v_range_id;
end
$$;
