-- A job and the stages of its present run, one row a stage in their order; a job has at least one. Volatile, so that it sees what the
-- calling statement did before.
-- Locks: none. Errors: none.
create or replace function stageflow.read_job_state(p_job_id text) returns table (
    job_id text, job_type text, workflow_version integer, job_status text, present_run integer, present_stage integer,
    total_stages integer, parameters text, metadata text, result_data text, error_details text, idempotency_key text,
    priority integer, not_before timestamptz, job_created_at timestamptz, job_updated_at timestamptz, job_deadline timestamptz,
    timeout_seconds double precision,
    stage_id bigint, job_of_stage text, run integer, stage_number integer, generation integer, name text, task_type text, status text,
    task_count integer, remaining integer, successful_tasks integer, failed_tasks integer, skipped_tasks integer,
    cancelled_tasks integer, halted boolean, plan_digest text, group_first integer, group_last integer, stored_result text,
    created_at timestamptz, updated_at timestamptz, deadline timestamptz,
    now timestamptz)
language plpgsql volatile strict as $$
#variable_conflict use_column
begin
    return query
    select j.job_id, j.job_type, j.workflow_version, j.status, j.run, j.stage, j.total_stages, j.parameters, j.metadata,
        j.result_data, j.error_details, j.idempotency_key, j.priority, j.not_before, j.created_at, j.updated_at, j.deadline,
        j.timeout_seconds,
        coalesce(s.taken_from, s.stage_id), s.job_id, s.run, s.stage_number, s.generation, s.name, s.task_type, s.status,
        s.task_count, s.remaining, s.successful_tasks, s.failed_tasks, s.skipped_tasks, s.cancelled_tasks, s.halted,
        s.plan_digest, s.group_first, s.group_last, s.stored_result, s.created_at, s.updated_at, s.deadline,
        stageflow.clock()
    from (select j.* from stageflow.jobs j where j.job_id = p_job_id) j
    cross join lateral (select s.* from stageflow.stages s where s.job_id = j.job_id and s.run = j.run offset 0) s
    order by s.stage_number;
end
$$;
