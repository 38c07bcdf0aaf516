-- Promise: whether the task right after a leased range was taken out of it by an operator (cut_out): it has a result that no lease
-- reported, or went on as a later attempt than the range's own.
-- Locks: none; the caller holds the range, so no cut is under way. Errors: none.
create or replace function stageflow.was_cut(p_range stageflow.ranges) returns boolean
language plpgsql volatile as $$
begin
    perform 1 from stageflow.results t
    where t.stage_id = p_range.stage_id and t.task_index = p_range.last and t.generation = p_range.generation
        and (t.token = 0 or t.attempt > p_range.attempt);
    if found then
        return true;
    end if;
    perform 1 from stageflow.ranges r
    where r.stage_id = p_range.stage_id and r.first = p_range.last and r.generation = p_range.generation
        and r.attempt > p_range.attempt;
    return found;
end
$$;
