select c.outcome, c.next_due_seconds, l.*, j.*
from stageflow.claim($1::text, $2::text[], $3::integer[], $4::integer, $5::double precision, $6::boolean) c
left join lateral stageflow.read_lease(c.range_id) l on true
left join lateral stageflow.read_job_state(case when l.kind <> 'task' then l.job_id end) j on true
