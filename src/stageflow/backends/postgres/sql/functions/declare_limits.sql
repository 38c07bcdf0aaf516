-- What the code of a starting worker declares for its task types (null: no limit). The lists are parallel.
-- Promise: it holds where no operator has said otherwise; types without any limit get no row.
-- Locks: rows of scopes by name, their slots; ready ranges, skipping locked ones. Errors: SF001.
create or replace function stageflow.declare_limits(
    p_scopes text[], p_max_running integer[], p_max_per_second double precision[]) returns void
language plpgsql volatile as $$
declare
    v_declared record;
    v_before stageflow.limits;
begin
    perform stageflow.require_read_committed();
    for v_declared in
        select d.* from unnest(p_scopes, p_max_running, p_max_per_second) as d (scope, max_running, max_per_second)
        order by d.scope
    loop
        select l.* into v_before from stageflow.limits l where l.scope = v_declared.scope;
        continue when (v_declared.max_running, v_declared.max_per_second)
            is not distinct from (v_before.declared_max_running, v_before.declared_max_per_second);
        insert into stageflow.limits as l (scope, declared_max_running, declared_max_per_second, max_running, max_per_second)
        values (
            v_declared.scope, v_declared.max_running, v_declared.max_per_second, v_declared.max_running,
            v_declared.max_per_second)
        on conflict (scope) do update set
            declared_max_running = excluded.declared_max_running,
            declared_max_per_second = excluded.declared_max_per_second,
            max_running = case when l.overridden then l.max_running else excluded.max_running end,
            max_per_second = case when l.overridden then l.max_per_second else excluded.max_per_second end;
        perform stageflow.open_slots(v_declared.scope);
    end loop;
end
$$;
