-- The scope under which a task type's limits are kept: one for all versions of its job type; null for planning and advancing.
-- Locks: none. Errors: none.
create or replace function stageflow.type_scope(p_work_type text) returns text
language sql immutable strict parallel safe as $$
    select split_part(p_work_type, '/', 1) || '/' || nullif(split_part(p_work_type, '/', 3), '')
$$;
