-- $1 is the separator of the packed texts. The lease is taken after the tasks were written, and only then.
select a.outcome, l.*
from (
    select stageflow.add_tasks(
        $2::bigint, $3::bigint, $4::bigint, $5::integer, string_to_array($6, $1, ''), string_to_array($7, $1, ''), $8::text,
        $9::boolean, $10::boolean, $11::integer, $12::boolean, $16::boolean) as outcome
    offset 0
) a
cross join lateral (
    select case when a.outcome = 'recorded'
        then stageflow.lease_new_range($4::bigint, $5::integer, $13::text, $14::integer, $15::double precision) end as range_id
    offset 0
) n
left join lateral stageflow.read_lease(n.range_id) l on true
