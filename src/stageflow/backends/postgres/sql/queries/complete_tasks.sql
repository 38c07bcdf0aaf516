-- $1 is the separator of the packed texts.
select c.place, c.outcome, c.is_last, c.job_id, c.stage_number, c.remaining, c.halted, l.*, j.*
from stageflow.complete_tasks(
    $2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::integer[],
    string_to_array($7, $1, ''), string_to_array($8, $1, ''), string_to_array($9, $1, ''), $10::double precision[],
    $11::double precision[], $12::double precision[], $13::integer[], $14::integer[], $15::integer[], $16::integer[],
    string_to_array($17, $1, ''), $18::text, $19::double precision) c
left join lateral stageflow.read_lease(c.advance_range_id) l on true
left join lateral stageflow.read_job_state(case when l.kind <> 'task' then l.job_id end) j on true
order by c.place, j.stage_number
