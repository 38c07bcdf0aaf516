select r.range_id, r.kind, s.job_id, j.job_type, s.run, s.stage_number, s.task_type, r.generation, r.first, r.last
from stageflow.ranges r
join stageflow.stages s on s.stage_id = r.stage_id
join stageflow.jobs j on j.job_id = s.job_id
where r.state = 'ready' and r.announced_at is null
order by r.range_id
limit $1::integer
