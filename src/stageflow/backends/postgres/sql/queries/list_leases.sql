select r.range_id, r.token, r.beat from stageflow.ranges r
where r.state = 'leased'
order by r.lease_expires_at
limit $1::integer
