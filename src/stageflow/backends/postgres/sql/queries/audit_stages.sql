-- The open stages of the jobs' present runs with what their rows add up to; one statement, so that each is seen as at one moment.
select s.stage_id, s.job_id, s.run, s.stage_number, s.generation, s.name, s.task_type, s.status, s.task_count, s.remaining,
    s.successful_tasks, s.failed_tasks, s.skipped_tasks, s.cancelled_tasks, s.halted, s.plan_digest, s.group_first, s.group_last,
    s.stored_result, s.created_at, s.updated_at, s.deadline,
    s.planned,
    coalesce((select max(d.task_index) + 1 from stageflow.tasks d where d.stage_id = s.stage_id), 0),
    t.o_open, t.o_completed, t.o_failed, t.o_skipped, t.o_cancelled, t.o_missing, t.o_first_missing, t.o_doubled,
    t.o_first_doubled,
    (select r.kind from stageflow.ranges r where r.stage_id = s.stage_id and r.kind <> 'task')
from unnest($1::text[]) as asked (job_id)
cross join lateral (select j.* from stageflow.jobs j where j.job_id = asked.job_id offset 0) j
cross join lateral (select s.* from stageflow.stages s where s.job_id = j.job_id and s.run = j.run offset 0) s
cross join lateral stageflow.tally_stage(s.stage_id, s.task_count) t
where not stageflow.is_closed_stage(s.status)
order by s.stage_id
