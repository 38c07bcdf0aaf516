-- Promise: a stage that is still open gets its status and stored result; one that is closed keeps what it has.
-- Locks: the stage. Errors: SF002 for a status that does not close a stage.
create or replace function stageflow.close_stage(p_stage_id bigint, p_status text, p_result text) returns void
language plpgsql volatile as $$
begin
    if p_status is null or not stageflow.is_closed_stage(p_status) then
        raise exception using errcode = 'SF002', message = format(
            'stage %s was to be closed as %s; close it as completed, completed_with_errors, failed, skipped or cancelled.',
            p_stage_id, coalesce(p_status, 'nothing'));
    end if;
    with closed as (
        update stageflow.stages s set status = p_status, stored_result = p_result, updated_at = stageflow.clock()
        where s.stage_id = p_stage_id and not stageflow.is_closed_stage(s.status)
        returning s.*
    )
    insert into stageflow.events (job_id, run, stage_number, generation, kind, status, at)
    select c.job_id, c.run, c.stage_number, c.generation, 'stage_closed', p_status, c.updated_at from closed c;
end
$$;
