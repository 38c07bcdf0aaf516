update stageflow.schedules s set
    state = $2, next_fire_at = coalesce($3::timestamptz, s.next_fire_at), updated_at = stageflow.clock(),
    error_details = case when $2 = 'active' then null else s.error_details end
where s.name = $1
