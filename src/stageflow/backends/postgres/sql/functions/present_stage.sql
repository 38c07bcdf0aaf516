-- A job's current stage, and whether the group it belongs to is the last of the workflow.
-- Locks: none. Errors: none.
create or replace function stageflow.present_stage(p_job_id text, out o_stage integer, out o_is_final boolean)
language plpgsql volatile as $$
begin
    select j.stage, s.group_last = j.total_stages into o_stage, o_is_final
    from stageflow.jobs j
    cross join lateral (
        select s.group_last from stageflow.stages s
        where s.job_id = j.job_id and s.run = j.run and s.stage_number = j.stage
        offset 0
    ) s
    where j.job_id = p_job_id;
end
$$;
