select t.task_index, t.key, t.parameters, s.task_type, j.job_type, s.created_at, d.status, d.attempt, d.result, d.error_details,
    null::timestamptz, d.completed_at
from (
    select s.*, coalesce(s.taken_from, s.stage_id) as source_id from stageflow.stages s
    where s.job_id = $1 and s.run = $2::integer and s.stage_number = $3::integer
    offset 0
) s
cross join lateral (select j.job_type from stageflow.jobs j where j.job_id = s.job_id offset 0) j
cross join lateral (
    select f.* from stageflow.results f
    where f.stage_id = s.source_id and f.task_index >= $4::integer and f.status = 'failed'
        and f.generation = (
            select max(n.generation) from stageflow.results n where n.stage_id = f.stage_id and n.task_index = f.task_index)
    order by f.task_index limit $5::integer
) d
cross join lateral (
    select t.* from stageflow.tasks t where t.stage_id = s.source_id and t.task_index = d.task_index offset 0
) t
order by t.task_index
