-- Promise: of the work types that a worker asks for, those of which something may be leased now, with how many tasks; and the
-- seconds after which to look again for those that have ready work and were left out (null where somebody tells).
-- Locks: none. Errors: none.
create or replace function stageflow.narrow_claim(
    p_work_types text[], p_max_tasks integer[],
    out o_work_types text[], out o_max_tasks integer[], out o_again_seconds double precision)
language plpgsql volatile as $$
declare
    v_asked record;
    v_limit stageflow.limits;
    v_allowed record;
begin
    o_work_types := '{}';
    o_max_tasks := '{}';
    for v_asked in select t.* from unnest(p_work_types, p_max_tasks) as t (work_type, max_tasks) loop
        select l.* into v_limit from stageflow.limits l where l.scope = stageflow.type_scope(v_asked.work_type);
        if found then
            select a.* into v_allowed from stageflow.allowed_tasks(v_limit, v_asked.max_tasks) a;
            if v_allowed.o_tasks = 0 then
                if v_allowed.o_again_seconds is not null then
                    perform 1 from stageflow.ranges r where r.work_type = v_asked.work_type and r.state = 'ready' limit 1;
                    if found then
                        o_again_seconds := least(o_again_seconds, v_allowed.o_again_seconds);
                    end if;
                end if;
                continue;
            end if;
            v_asked.max_tasks := v_allowed.o_tasks;
        end if;
        o_work_types := o_work_types || v_asked.work_type;
        o_max_tasks := o_max_tasks || v_asked.max_tasks;
    end loop;
end
$$;
