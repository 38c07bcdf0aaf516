select t.task_index, t.key, t.parameters, s.task_type, j.job_type, s.created_at, d.status, d.attempt, d.result, d.error_details,
    null::timestamptz, d.completed_at
from stageflow.stages s
join stageflow.jobs j on j.job_id = s.job_id
cross join lateral (
    select f.* from stageflow.results f
    where f.stage_id = s.stage_id and f.task_index >= $4::integer and f.status = 'failed'
        and not exists (
            select from stageflow.results n
            where n.stage_id = f.stage_id and n.task_index = f.task_index and n.generation > f.generation)
    order by f.task_index limit $5::integer
) d
join stageflow.tasks t on t.stage_id = s.stage_id and t.task_index = d.task_index
where s.job_id = $1 and s.run = $2::integer and s.stage_number = $3::integer
order by t.task_index
