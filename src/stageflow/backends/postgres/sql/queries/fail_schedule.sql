update stageflow.schedules s set
    state = 'failed', next_fire_at = null, error_details = $3, updated_at = stageflow.clock()
where s.name = $1 and s.state = 'active' and ($2::timestamptz is null or s.next_fire_at = $2)
returning true
