-- $1 is the separator of the texts about a stage's next ones, $2 that of the stages.
select c.place, a.o_outcome, a.o_new_stage, a.o_is_final, l.*, j.*
from unnest(
    case when cardinality($3::bigint[]) > 1 then stageflow.lock_control($3, true) else $3 end, $4::bigint[], $5::bigint[],
    string_to_array($6, $2, ''), string_to_array($7, $2, ''), $8::text[], string_to_array($9, $2, ''),
    string_to_array($10, $2, ''), $11::text[], $12::text[], $13::text[], $14::text[], string_to_array($15, $2, '')
) with ordinality as c (
    range_id, token, stage_id, status, result, numbers, names, task_types, fail_fast, rates, group_firsts, group_lasts,
    skipped_results, place)
cross join lateral stageflow.advance_job_stage(
    c.range_id, c.token, c.stage_id, c.status, c.result, c.numbers::integer[], coalesce(string_to_array(c.names, $1, ''), '{}'),
    coalesce(string_to_array(c.task_types, $1, ''), '{}'), c.fail_fast::boolean[], c.rates::double precision[],
    c.group_firsts::integer[], c.group_lasts::integer[], coalesce(string_to_array(c.skipped_results, $1, ''), '{}'), $16::text,
    $17::double precision) a
left join lateral stageflow.read_lease(a.o_plan_range_id) l on true
left join lateral stageflow.read_job_state(case when l.kind <> 'task' then l.job_id end) j on true
