select p.first, p.last, p.successful_tasks, p.value
from stageflow.partials p
where p.stage_id = $1::bigint
    and p.generation = (select s.generation from stageflow.stages s where s.stage_id = $1::bigint)
    and p.first >= $2::integer
order by p.first
limit $3::integer
