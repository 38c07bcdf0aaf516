-- The work types that delayed ranges have: one index probe a type, however many ranges wait.
-- Locks: none. Errors: none.
create or replace function stageflow.waiting_work_types() returns text[]
language plpgsql volatile as $$
declare
    v_types text[] := '{}';
    v_type text := '';
begin
    loop
        select r.work_type into v_type from stageflow.ranges r
        where r.state = 'waiting' and r.work_type > v_type
        order by r.work_type limit 1;
        exit when not found;
        v_types := v_types || v_type;
    end loop;
    return v_types;
end
$$;
