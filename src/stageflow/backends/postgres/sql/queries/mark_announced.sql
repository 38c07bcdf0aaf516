update stageflow.ranges r set announced_at = stageflow.clock()
from (
    select m.range_id from stageflow.ranges m
    where m.range_id = any ($1::bigint[]) and m.state = 'ready'
    order by m.range_id for update
) marked
where r.range_id = marked.range_id
