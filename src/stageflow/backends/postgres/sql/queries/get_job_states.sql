-- One row a job and stage of its present run; a job has at least one.
select j.job_id, j.job_type, j.workflow_version, j.status, j.run, j.stage, j.total_stages, j.parameters, j.metadata, j.result_data,
    j.error_details, j.idempotency_key, j.priority, j.not_before, j.created_at, j.updated_at,
    j.deadline, j.timeout_seconds,
    coalesce(s.taken_from, s.stage_id), s.job_id, s.run, s.stage_number, s.generation, s.name, s.task_type, s.status, s.task_count, s.remaining,
    s.successful_tasks, s.failed_tasks, s.skipped_tasks, s.cancelled_tasks, s.halted, s.plan_digest, s.group_first, s.group_last,
    s.stored_result, s.created_at, s.updated_at, s.deadline, stageflow.clock()
from unnest($1::text[]) with ordinality as asked (job_id, place)
cross join lateral (select j.* from stageflow.jobs j where j.job_id = asked.job_id offset 0) j
cross join lateral (select s.* from stageflow.stages s where s.job_id = j.job_id and s.run = j.run offset 0) s
order by asked.place, s.stage_number
