select c.outcome, c.next_due_seconds, l.*, j.*
from stageflow.claim_named(
    $1::text, $2::text, $3::integer, $4::integer, $5::integer, $6::text[], $7::text[], $8::integer, $9::integer, $10::integer,
    $11::double precision) c
left join lateral stageflow.read_lease(c.range_id) l on true
left join lateral stageflow.read_job_state(case when l.kind <> 'task' then l.job_id end) j on true
