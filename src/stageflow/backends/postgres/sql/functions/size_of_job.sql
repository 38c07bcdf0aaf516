-- How many tasks a job has over all its runs, and about how many bytes all its rows: their texts as they are stored, and a round
-- number for the rest of each row and its index entries.
-- Locks: none. Errors: none.
create or replace function stageflow.size_of_job(p_job_id text, p_stage_ids bigint[], out o_tasks bigint, out o_bytes bigint)
language plpgsql volatile as $$
declare
    v_bytes bigint;
begin
    select count(*), coalesce(sum(100 + pg_column_size(t.parameters) + coalesce(pg_column_size(t.key), 0)), 0)
    into o_tasks, o_bytes from stageflow.tasks t where t.stage_id = any (p_stage_ids);
    select coalesce(sum(140 + coalesce(pg_column_size(t.result), 0) + coalesce(pg_column_size(t.error_details), 0)), 0)
    into v_bytes from stageflow.results t where t.stage_id = any (p_stage_ids);
    o_bytes := o_bytes + v_bytes;
    select coalesce(sum(100 + pg_column_size(p.value)), 0) into v_bytes
    from stageflow.partials p where p.stage_id = any (p_stage_ids);
    o_bytes := o_bytes + v_bytes;
    select coalesce(sum(100 + pg_column_size(c.value)), 0) into v_bytes
    from stageflow.checkpoints c where c.stage_id = any (p_stage_ids);
    o_bytes := o_bytes + v_bytes;
    select coalesce(sum(300 + coalesce(pg_column_size(r.error_details), 0)), 0) into v_bytes
    from stageflow.ranges r where r.stage_id = any (p_stage_ids);
    o_bytes := o_bytes + v_bytes;
    select coalesce(sum(300 + coalesce(pg_column_size(s.stored_result), 0)), 0) into v_bytes
    from stageflow.stages s where s.job_id = p_job_id;
    o_bytes := o_bytes + v_bytes;
    select coalesce(sum(150 + coalesce(pg_column_size(e.detail), 0)), 0) into v_bytes
    from stageflow.events e where e.job_id = p_job_id;
    o_bytes := o_bytes + v_bytes;
    select coalesce(sum(600 + pg_column_size(j.parameters) + pg_column_size(j.metadata)
        + coalesce(pg_column_size(j.result_data), 0) + coalesce(pg_column_size(j.error_details), 0)), 0) into v_bytes
    from stageflow.jobs j where j.job_id = p_job_id;
    o_bytes := o_bytes + v_bytes;
end
$$;
