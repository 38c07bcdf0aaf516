-- Whether the lease that a slot was given to is gone.
-- Locks: none. Errors: none.
create or replace function stageflow.is_free_slot(p_range_id bigint, p_token bigint) returns boolean
language plpgsql volatile as $$
begin
    perform 1 from stageflow.ranges r where r.range_id = p_range_id and r.token = p_token;
    return not found;
end
$$;
