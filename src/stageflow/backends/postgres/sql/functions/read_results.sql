-- Promise: the newest result of each index of a stage from p_first on, at most p_limit, in index order: results, and the indexes of
-- ranges that were closed without one. A stage that has neither closed ranges nor generations is read straight from the key.
-- Locks: none. Errors: none.
create or replace function stageflow.read_results(p_stage_id bigint, p_first integer, p_limit integer) returns table (
    task_index integer, attempt integer, status text, result text, error_details text, seconds double precision,
    completed_at timestamptz)
language plpgsql volatile strict as $$
#variable_conflict use_column
begin
    perform 1 from stageflow.stages s
    where s.stage_id = p_stage_id and s.generation = 1 and s.skipped_tasks + s.cancelled_tasks = 0;
    if found then
        return query
        select t.task_index, t.attempt, t.status, t.result, t.error_details, t.seconds, t.completed_at
        from stageflow.results t
        where t.stage_id = p_stage_id and t.task_index >= p_first
        order by t.task_index limit p_limit;
        return;
    end if;
    return query
    select distinct on (found.task_index)
        found.task_index, found.attempt, found.status, found.result, found.error_details, found.seconds, found.completed_at
    from (
        (select distinct on (t.task_index)
            t.task_index, t.generation, t.attempt, t.status, t.result, t.error_details, t.seconds, t.completed_at
        from stageflow.results t
        where t.stage_id = p_stage_id and t.task_index >= p_first
        order by t.task_index, t.generation desc
        limit p_limit)
        union all
        (select i.task_index, r.generation, r.attempt, r.state, null, case r.state
                when 'skipped' then 'skipped: the stage was halted' else 'cancelled: the job had ended' end,
            0, r.closed_at
        from stageflow.ranges r
        cross join lateral generate_series(
            greatest(r.first, p_first), least(r.last::bigint, greatest(r.first, p_first)::bigint + p_limit)::integer - 1
        ) as i (task_index)
        where r.stage_id = p_stage_id and r.kind = 'task' and r.state in ('skipped', 'cancelled') and r.last > p_first
        order by i.task_index
        limit p_limit)
    ) found
    order by found.task_index, found.generation desc
    limit p_limit;
end
$$;
