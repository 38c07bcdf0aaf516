-- Promise: consecutive tasks are written, or, where one's key is there already, none. Without keys there is no subtransaction: a
-- bundle of many plans would overflow what a backend keeps of them.
-- Locks: the caller holds the stage. Errors: SF005 naming the key.
create or replace function stageflow.insert_tasks(p_stage_id bigint, p_first_index integer, p_parameters text[], p_keys text[])
returns void
language plpgsql volatile as $$
declare
    v_key text;
begin
    if cardinality(p_keys) = 0 then
        insert into stageflow.tasks (stage_id, task_index, parameters)
        select p_stage_id, p_first_index + (t.place - 1)::integer, t.parameters
        from unnest(p_parameters) with ordinality as t (parameters, place);
        return;
    end if;
    begin
        insert into stageflow.tasks (stage_id, task_index, parameters, key)
        select p_stage_id, p_first_index + (t.place - 1)::integer, t.parameters, t.key
        from unnest(p_parameters, p_keys) with ordinality as t (parameters, key, place);
    exception
        when unique_violation then
            select k.key into v_key
            from (
                select a.*, row_number() over (partition by a.key order by a.place) as nth
                from unnest(p_keys) with ordinality as a (key, place)
            ) k
            where k.key is not null and (k.nth > 1 or exists (
                select 1 from stageflow.tasks t where t.stage_id = p_stage_id and t.key = k.key))
            order by k.nth = 1, k.place
            limit 1;
            if not found then
                raise;
            end if;
            raise exception using errcode = 'SF005', message = format(
                'two tasks of the stage have the key ''%s''; nothing was written: give each task its own key, or none', v_key);
    end;
end
$$;
