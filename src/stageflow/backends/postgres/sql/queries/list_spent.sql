-- Control work that killed as many workers as it may, as end_job needs it.
select s.job_id, r.range_id, r.token, r.beat, s.stage_id, s.stage_number, r.kind, r.deaths + 1
from stageflow.ranges r join stageflow.stages s on s.stage_id = r.stage_id
where r.range_id = any ($1::bigint[]) and r.state = 'leased'
order by r.range_id
