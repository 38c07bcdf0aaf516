select a.o_outcome, a.o_new_stage, a.o_is_final, l.*, j.*
from stageflow.advance_job_stage(
    $1::bigint, $2::bigint, $3::bigint, $4::text, $5::text, $6::integer[], $7::text[], $8::text[], $9::boolean[],
    $10::double precision[], $11::integer[], $12::integer[], $13::text[], $14::text, $15::double precision) a
left join lateral stageflow.read_lease(a.o_plan_range_id) l on true
left join lateral stageflow.read_job_state(case when l.kind <> 'task' then l.job_id end) j on true
