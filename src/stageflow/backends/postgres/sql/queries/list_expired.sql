select r.range_id, r.stage_id, r.kind, r.work_type, r.state, r.first, r.last, r.attempt, r.deaths, r.not_before, r.worker_id,
    r.lease_expires_at, r.renewed_at, r.current_index, r.current_since, r.error_details, r.announced_at, r.created_at, s.job_id,
    s.stage_number
from (
    select u.* from stageflow.ranges u
    where u.state = 'leased' and u.lease_expires_at < (select stageflow.clock() - make_interval(secs => $1))
    order by u.lease_expires_at limit $2::integer
) r
cross join lateral (select s.job_id, s.stage_number from stageflow.stages s where s.stage_id = r.stage_id offset 0) s
order by r.lease_expires_at
