-- $1 is the separator of the texts about a job's skipped stages, $2 that of the jobs.
select d.o_complete, d.o_updated, d.o_status, d.o_final_stage, d.o_final_stage_id, d.o_total, d.o_successful, d.o_failed
from unnest(
    case when cardinality($3::bigint[]) > 1 then stageflow.lock_control($3, true) else $3 end, $4::bigint[],
    string_to_array($5, $2, ''), $6::bigint[], string_to_array($7, $2, ''), string_to_array($8, $2, ''),
    string_to_array($9, $2, ''), $10::text[], string_to_array($11, $2, ''), string_to_array($12, $2, ''), $13::text[], $14::text[],
    $15::text[], $16::text[], string_to_array($17, $2, '')
) with ordinality as c (
    range_id, token, job_id, stage_id, status, result, result_data, numbers, names, task_types, fail_fast, rates, group_firsts,
    group_lasts, skipped_results, place)
cross join lateral stageflow.check_job_completion(
    c.job_id, c.range_id, c.token, c.stage_id, c.status, c.result, c.result_data, c.numbers::integer[],
    coalesce(string_to_array(c.names, $1, ''), '{}'), coalesce(string_to_array(c.task_types, $1, ''), '{}'),
    c.fail_fast::boolean[], c.rates::double precision[], c.group_firsts::integer[], c.group_lasts::integer[],
    coalesce(string_to_array(c.skipped_results, $1, ''), '{}')) d
order by c.place
