-- The results of several narrow stages, each whole, in index order.
select asked.stage_id, found.*
from unnest($1::bigint[]) as asked (stage_id)
cross join lateral (
    select distinct on (u.task_index)
        u.task_index, u.attempt, u.status, u.result, u.error_details, u.seconds, u.completed_at
    from (
        select t.task_index, t.generation, t.attempt, t.status, t.result, t.error_details, t.seconds, t.completed_at
        from stageflow.results t where t.stage_id = asked.stage_id
        union all
        select i.task_index, r.generation, r.attempt, r.state, null, case r.state
                when 'skipped' then 'skipped: the stage was halted' else 'cancelled: the job had ended' end,
            0, r.closed_at
        from stageflow.ranges r cross join lateral generate_series(r.first, r.last - 1) as i (task_index)
        where r.stage_id = asked.stage_id and r.kind = 'task' and r.state in ('skipped', 'cancelled')
    ) u
    order by u.task_index, u.generation desc
) found
