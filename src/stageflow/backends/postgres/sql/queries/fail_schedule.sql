update stageflow.schedules s set
    state = 'failed', next_fire_at = null, error_details = $3, updated_at = stageflow.clock()
where s.name = $1 and s.state = 'active' and s.next_fire_at = $2::timestamptz
returning true
