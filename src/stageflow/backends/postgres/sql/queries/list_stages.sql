select coalesce(s.taken_from, s.stage_id), s.job_id, s.run, s.stage_number, s.generation, s.name, s.task_type, s.status, s.task_count, s.remaining,
    s.successful_tasks, s.failed_tasks, s.skipped_tasks, s.cancelled_tasks, s.halted, s.plan_digest, s.group_first, s.group_last,
    s.stored_result, s.created_at, s.updated_at, s.deadline
from stageflow.stages s where s.job_id = $1 and s.run = $2::integer
order by s.stage_number
