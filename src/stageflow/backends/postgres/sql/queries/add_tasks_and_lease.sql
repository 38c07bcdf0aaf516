-- $1 is the separator of a chunk's texts, $2 that of the chunks. Not unnested together: each list would be stored on the way. A
-- lease is taken after the tasks were written, and only then.
select c.place, a.outcome, l.*
from (
    select case when cardinality($3::bigint[]) > 1 then stageflow.lock_control($3, false) else $3 end as range_ids,
        string_to_array($7, $2, '') as parameters, string_to_array($8, $2, '') as keys, string_to_array($9, $2, '') as digests,
        string_to_array($15, $2, '') as worker_ids
    offset 0
) g
cross join lateral generate_series(1, cardinality(g.range_ids)) as c (place)
cross join lateral (
    select stageflow.add_tasks(
        g.range_ids[c.place], ($4::bigint[])[c.place], ($5::bigint[])[c.place], ($6::integer[])[c.place],
        coalesce(string_to_array(g.parameters[c.place], $1, ''), '{}'), coalesce(string_to_array(g.keys[c.place], $1, ''), '{}'),
        coalesce(g.digests[c.place], ''), ($10::boolean[])[c.place], ($11::boolean[])[c.place], ($12::integer[])[c.place],
        ($13::boolean[])[c.place], ($14::boolean[])[c.place]) as outcome
    offset 0
) a
cross join lateral (
    select case when a.outcome = 'recorded' then stageflow.lease_new_range(
        ($5::bigint[])[c.place], ($6::integer[])[c.place], g.worker_ids[c.place], ($16::integer[])[c.place],
        ($17::double precision[])[c.place]) end as range_id
    offset 0
) n
left join lateral stageflow.read_lease(n.range_id) l on true
