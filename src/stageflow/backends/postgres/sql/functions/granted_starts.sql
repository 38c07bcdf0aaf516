-- How many starts a rate has granted by now and nobody has used: they grow from spent_at on, to a tenth of a second's worth, and
-- at least one. Below one, the fraction says how far the next is.
-- Locks: none. Errors: none.
create or replace function stageflow.granted_starts(p_spent_at timestamptz, p_per_second double precision) returns double precision
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
begin
    -- A clock that was put back would grant nothing until it is where it was.
    return least(
        greatest(1.0, p_per_second / 10), extract(epoch from v_now - least(p_spent_at, v_now))::double precision * p_per_second);
end
$$;
