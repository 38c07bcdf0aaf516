select s.name, s.job_type, s.parameters, s.cron, s.time_zone, s.catch_up, s.priority, s.timeout_seconds, s.state, s.next_fire_at,
    s.last_fire_at, s.last_job_id, s.error_details, s.created_at, s.updated_at
from stageflow.schedules s
where s.state = 'active' and s.next_fire_at <= stageflow.clock() and s.job_type = any ($1::text[])
order by s.next_fire_at, s.name
limit $2::integer
