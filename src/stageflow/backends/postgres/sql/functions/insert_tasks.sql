-- Promise: consecutive tasks are written, or, where one's key is there already, none.
-- Locks: the caller holds the stage. Errors: SF005 naming the key.
create or replace function stageflow.insert_tasks(p_stage_id bigint, p_first_index integer, p_parameters text[], p_keys text[])
returns void
language plpgsql volatile as $$
declare
    v_detail text;
begin
    if cardinality(p_keys) = 0 then
        insert into stageflow.tasks (stage_id, task_index, parameters)
        select p_stage_id, p_first_index + (t.place - 1)::integer, t.parameters
        from unnest(p_parameters) with ordinality as t (parameters, place);
        return;
    end if;
    insert into stageflow.tasks (stage_id, task_index, parameters, key)
    select p_stage_id, p_first_index + (t.place - 1)::integer, t.parameters, t.key
    from unnest(p_parameters, p_keys) with ordinality as t (parameters, key, place);
exception
    when unique_violation then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception using errcode = 'SF005', message = format(
            'a task key is there twice in one stage: %s Make the keys unique within the stage, or leave them out.', v_detail);
end
$$;
