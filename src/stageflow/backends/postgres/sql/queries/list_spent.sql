-- Control work that killed as many workers as it may, as end_job needs it.
select s.job_id, r.range_id, r.token, r.beat, s.stage_id, s.stage_number, r.kind, r.deaths + 1
from stageflow.ranges r
cross join lateral (select s.* from stageflow.stages s where s.stage_id = r.stage_id offset 0) s
where r.range_id = any ($1::bigint[]) and r.token is not null
order by r.range_id
