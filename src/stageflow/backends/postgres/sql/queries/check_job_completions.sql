-- $1 is the separator of the texts about a job's skipped stages, $2 that of the jobs. Not unnested together: each list would be
-- stored on the way.
select d.o_complete, d.o_updated, d.o_status, d.o_final_stage, d.o_final_stage_id, d.o_total, d.o_successful, d.o_failed
from (
    select case when cardinality($3::bigint[]) > 1 then stageflow.lock_control($3, true) else $3 end as range_ids,
        string_to_array($5, $2, '') as job_ids, string_to_array($7, $2, '') as statuses, string_to_array($8, $2, '') as results,
        string_to_array($9, $2, '') as answers, string_to_array($11, $2, '') as names, string_to_array($12, $2, '') as task_types,
        string_to_array($17, $2, '') as skipped_results
    offset 0
) g
cross join lateral generate_series(1, cardinality(g.range_ids)) as c (place)
cross join lateral stageflow.check_job_completion(
    g.job_ids[c.place], g.range_ids[c.place], ($4::bigint[])[c.place], ($6::bigint[])[c.place], g.statuses[c.place],
    g.results[c.place], g.answers[c.place], ($10::text[])[c.place]::integer[],
    coalesce(string_to_array(g.names[c.place], $1, ''), '{}'), coalesce(string_to_array(g.task_types[c.place], $1, ''), '{}'),
    ($13::text[])[c.place]::boolean[], ($14::text[])[c.place]::double precision[], ($15::text[])[c.place]::integer[],
    ($16::text[])[c.place]::integer[], coalesce(string_to_array(g.skipped_results[c.place], $1, ''), '{}')) d
order by c.place
