select coalesce((
    select sum(r.last - r.first) filter (where r.kind = 'task' and r.state = 'leased')
    from stageflow.ranges r where r.stage_id = asked.stage_id
), 0)::integer
from unnest($1::bigint[]) with ordinality as asked (stage_id, place)
order by asked.place
