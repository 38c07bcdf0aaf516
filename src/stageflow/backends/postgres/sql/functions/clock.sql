-- The store's time. Promise: every function reads time here only; tests move it with the setting stageflow.clock_offset.
-- Locks: none. Errors: none.
create or replace function stageflow.clock() returns timestamptz
language plpgsql volatile as $$
declare
    v_offset text := current_setting('stageflow.clock_offset', true);
begin
    if v_offset is null or v_offset = '' then
        return clock_timestamp();
    end if;
    return clock_timestamp() + v_offset::interval;
end
$$;
