update stageflow.ranges r set announced_at = case when r.state = 'ready' then stageflow.clock() else r.announced_at end
where r.range_id = any ($1::bigint[])
