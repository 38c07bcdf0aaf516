-- An operator's word on a task type. Promise: the given limits hold from now on (null: none), whatever is declared; or, with
-- p_overridden false, what is declared holds again.
-- Locks: the scope's row, its slots; ready ranges, skipping locked ones. Errors: SF001.
create or replace function stageflow.limit_task_type(
    p_scope text, p_overridden boolean, p_max_running integer, p_max_per_second double precision) returns void
language plpgsql volatile as $$
begin
    perform stageflow.require_read_committed();
    insert into stageflow.limits (scope, overridden, max_running, max_per_second)
    values (p_scope, p_overridden, p_max_running, p_max_per_second)
    on conflict (scope) do nothing;
    update stageflow.limits l set
        overridden = p_overridden,
        max_running = case when p_overridden then p_max_running else l.declared_max_running end,
        max_per_second = case when p_overridden then p_max_per_second else l.declared_max_per_second end
    where l.scope = p_scope;
    perform stageflow.open_slots(p_scope);
end
$$;
