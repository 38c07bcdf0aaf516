-- Takes stages of a run over into the next one.
-- Promise: those from p_first to p_last of run p_run that completed (or were skipped), in groups that end at p_group_last at the
-- latest, are stages of run p_run + 1 as well; their tasks and results stay where they are. Returns how many.
-- Locks: the caller holds the job. Errors: none.
create or replace function stageflow.take_over_stages(
    p_job_id text, p_run integer, p_first integer, p_last integer, p_group_last integer) returns integer
language plpgsql volatile as $$
declare
    v_done integer;
begin
    insert into stageflow.stages (
        job_id, run, stage_number, generation, name, task_type, status, task_count, remaining, successful_tasks, failed_tasks,
        skipped_tasks, cancelled_tasks, planned, halted, plan_digest, fail_fast, minimum_success_rate, group_first, group_last,
        stored_result, taken_from, created_at, updated_at)
    select s.job_id, s.run + 1, s.stage_number, s.generation, s.name, s.task_type, s.status, s.task_count, s.remaining,
        s.successful_tasks, s.failed_tasks, s.skipped_tasks, s.cancelled_tasks, s.planned, s.halted, s.plan_digest, s.fail_fast,
        s.minimum_success_rate, s.group_first, s.group_last, s.stored_result, coalesce(s.taken_from, s.stage_id), s.created_at,
        s.updated_at
    from stageflow.stages s
    where s.job_id = p_job_id and s.run = p_run and s.stage_number between p_first and p_last and s.group_last <= p_group_last
        and s.status in ('completed', 'completed_with_errors', 'skipped') and s.stored_result is not null
    order by s.stage_number;
    get diagnostics v_done = row_count;
    return v_done;
end
$$;
