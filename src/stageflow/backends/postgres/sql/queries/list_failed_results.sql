-- Failed tasks only, by the partial index; a failed result that a later generation replaced does not count.
select t.task_index, t.attempt, t.status, t.result, t.error_details, t.seconds, t.completed_at
from stageflow.results t
where t.stage_id = $1::bigint and t.task_index >= $2::integer and t.status = 'failed'
    and t.generation = (
        select max(n.generation) from stageflow.results n where n.stage_id = t.stage_id and n.task_index = t.task_index)
order by t.task_index
limit $3::integer
