-- The newest result of each index of a stage from $2 on, at most $3: results, and the indexes of ranges that were closed without.
select distinct on (found.task_index)
    found.task_index, found.attempt, found.status, found.result, found.error_details, found.seconds, found.completed_at
from (
    (select distinct on (t.task_index)
        t.task_index, t.generation, t.attempt, t.status, t.result, t.error_details, t.seconds, t.completed_at
    from stageflow.results t
    where t.stage_id = $1::bigint and t.task_index >= $2::integer
    order by t.task_index, t.generation desc
    limit $3::integer)
    union all
    (select i.task_index, r.generation, r.attempt, r.state, null, case r.state
            when 'skipped' then 'skipped: the stage was halted' else 'cancelled: the job had ended' end,
        0, r.closed_at
    from stageflow.ranges r
    cross join lateral generate_series(
        greatest(r.first, $2::integer), least(r.last::bigint, greatest(r.first, $2::integer)::bigint + $3::integer)::integer - 1
    ) as i (task_index)
    where r.stage_id = $1::bigint and r.kind = 'task' and r.state in ('skipped', 'cancelled') and r.last > $2::integer
    order by i.task_index
    limit $3::integer)
) found
order by found.task_index, found.generation desc
limit $3::integer
