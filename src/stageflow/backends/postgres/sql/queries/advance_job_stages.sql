-- $1 is the separator of the texts about a stage's next ones, $2 that of the stages. Not unnested together: each list would be
-- stored on the way.
select c.place, a.o_outcome, a.o_new_stage, a.o_is_final, l.*, j.*
from (
    select case when cardinality($3::bigint[]) > 1 then stageflow.lock_control($3, true) else $3 end as range_ids,
        string_to_array($6, $2, '') as statuses, string_to_array($7, $2, '') as results, string_to_array($9, $2, '') as names,
        string_to_array($10, $2, '') as task_types, string_to_array($15, $2, '') as skipped_results
    offset 0
) g
cross join lateral generate_series(1, cardinality(g.range_ids)) as c (place)
cross join lateral stageflow.advance_job_stage(
    g.range_ids[c.place], ($4::bigint[])[c.place], ($5::bigint[])[c.place], g.statuses[c.place], g.results[c.place],
    ($8::text[])[c.place]::integer[], coalesce(string_to_array(g.names[c.place], $1, ''), '{}'),
    coalesce(string_to_array(g.task_types[c.place], $1, ''), '{}'), ($11::text[])[c.place]::boolean[],
    ($12::text[])[c.place]::double precision[], ($13::text[])[c.place]::integer[], ($14::text[])[c.place]::integer[],
    coalesce(string_to_array(g.skipped_results[c.place], $1, ''), '{}'), $16::text, $17::double precision) a
left join lateral stageflow.read_lease(a.o_plan_range_id) l on true
left join lateral stageflow.read_job_state(case when l.kind <> 'task' then l.job_id end) j on true
