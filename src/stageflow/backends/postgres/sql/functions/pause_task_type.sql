-- Promise: nothing of a task type is leased from now on and what runs may end; or, with p_paused false, it is leased again. To pause
-- what is paused leaves the time as it was.
-- Locks: the scope's row, its slots; ready ranges, skipping locked ones. Errors: SF001.
create or replace function stageflow.pause_task_type(p_scope text, p_paused boolean) returns void
language plpgsql volatile as $$
begin
    perform stageflow.require_read_committed();
    insert into stageflow.limits (scope) values (p_scope) on conflict (scope) do nothing;
    update stageflow.limits l set paused_at = case when p_paused then coalesce(l.paused_at, stageflow.clock()) end
    where l.scope = p_scope;
    perform stageflow.open_slots(p_scope);
end
$$;
