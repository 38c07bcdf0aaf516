-- The time is a subselect, because the index can be searched for what was computed once only.
select r.range_id, r.kind, s.job_id, j.job_type, s.run, s.stage_number, s.task_type, r.generation, r.first, r.last
from (
    (select u.* from stageflow.ranges u
    where u.state = 'ready' and u.announced_at is null
    order by u.announced_at nulls first, u.range_id limit $1::integer)
    union all
    (select o.* from stageflow.ranges o
    where o.state = 'ready' and o.announced_at < (select stageflow.clock() - make_interval(secs => $2::double precision))
    order by o.announced_at nulls first, o.range_id limit $1::integer)
) r
cross join lateral (select s.* from stageflow.stages s where s.stage_id = r.stage_id offset 0) s
cross join lateral (select j.job_type from stageflow.jobs j where j.job_id = s.job_id offset 0) j
order by r.announced_at nulls first, r.range_id
limit $1::integer
