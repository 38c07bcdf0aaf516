-- One row a job and closed stage of its present run; the stage's columns are null where none is closed.
select j.job_id, j.job_type, j.workflow_version, j.status, j.run, j.stage, j.total_stages, j.parameters, j.metadata, j.result_data,
    j.error_details, j.idempotency_key, j.priority, j.not_before, j.created_at, j.updated_at,
    j.deadline, j.timeout_seconds,
    coalesce(s.taken_from, s.stage_id), s.stage_number, s.task_type, s.task_count, s.stored_result
from unnest($1::text[]) with ordinality as asked (job_id, place)
cross join lateral (select j.* from stageflow.jobs j where j.job_id = asked.job_id offset 0) j
left join lateral (
    select s.* from stageflow.stages s
    where s.job_id = j.job_id and s.run = j.run and s.stored_result is not null
    offset 0
) s on true
order by asked.place, s.stage_number
