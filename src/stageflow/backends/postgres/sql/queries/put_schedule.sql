insert into stageflow.schedules as s (
    name, job_type, parameters, cron, time_zone, catch_up, priority, timeout_seconds, next_fire_at, created_at, updated_at)
values (
    $1, $2, $3, $4, $5, $6, $7::integer, $8::double precision, $9::timestamptz, stageflow.clock(), stageflow.clock())
on conflict (name) do update set
    job_type = excluded.job_type, parameters = excluded.parameters, cron = excluded.cron, time_zone = excluded.time_zone,
    catch_up = excluded.catch_up, priority = excluded.priority, timeout_seconds = excluded.timeout_seconds,
    state = 'active', error_details = null, updated_at = excluded.updated_at,
    next_fire_at = case
        when (s.cron, s.time_zone, s.state) = (excluded.cron, excluded.time_zone, 'active') then s.next_fire_at
        else excluded.next_fire_at end
where (s.job_type, s.parameters, s.cron, s.time_zone, s.catch_up, s.priority, s.timeout_seconds) is distinct from
    (excluded.job_type, excluded.parameters, excluded.cron, excluded.time_zone, excluded.catch_up, excluded.priority,
    excluded.timeout_seconds)
