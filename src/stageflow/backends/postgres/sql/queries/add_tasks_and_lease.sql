-- $1 is the separator of a chunk's texts, $2 that of the chunks. A lease is taken after the tasks were written, and only then.
select c.place, a.outcome, l.*
from unnest(
    case when cardinality($3::bigint[]) > 1 then stageflow.lock_control($3, false) else $3 end, $4::bigint[], $5::bigint[],
    $6::integer[], string_to_array($7, $2, ''), string_to_array($8, $2, ''), string_to_array($9, $2, ''), $10::boolean[],
    $11::boolean[], $12::integer[], $13::boolean[], $14::boolean[], string_to_array($15, $2, ''), $16::integer[],
    $17::double precision[]
) with ordinality as c (
    range_id, token, stage_id, first_index, parameters, keys, digest, final, claimable, range_count, replace, wake, worker_id,
    max_tasks, lease_seconds, place)
cross join lateral (
    select stageflow.add_tasks(
        c.range_id, c.token, c.stage_id, c.first_index, coalesce(string_to_array(c.parameters, $1, ''), '{}'),
        coalesce(string_to_array(c.keys, $1, ''), '{}'), coalesce(c.digest, ''), c.final, c.claimable, c.range_count, c.replace, c.wake) as outcome
    offset 0
) a
cross join lateral (
    select case when a.outcome = 'recorded'
        then stageflow.lease_new_range(c.stage_id, c.first_index, c.worker_id, c.max_tasks, c.lease_seconds) end as range_id
    offset 0
) n
left join lateral stageflow.read_lease(n.range_id) l on true
