-- Ready ranges of which no external queue was told, though they were made, or leased last, long ago.
select r.range_id, r.stage_id, r.kind, r.work_type, r.state, r.first, r.last, r.attempt, r.deaths, r.not_before, r.worker_id,
    r.lease_expires_at, r.renewed_at, r.current_index, r.current_since, r.error_details, r.announced_at, r.created_at, s.job_id,
    s.stage_number
from (
    select u.* from stageflow.ranges u
    where u.state = 'ready' and u.announced_at is null
        and greatest(u.created_at, u.renewed_at) < (select stageflow.clock() - make_interval(secs => $1))
    order by u.announced_at nulls first, u.range_id limit $2::integer
) r
cross join lateral (select s.job_id, s.stage_number from stageflow.stages s where s.stage_id = r.stage_id offset 0) s
order by r.range_id
