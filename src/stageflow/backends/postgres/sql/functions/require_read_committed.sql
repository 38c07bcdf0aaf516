-- Promise: returns only in a READ COMMITTED transaction. At REPEATABLE READ a finisher cannot see that others finished, and
-- nobody would be told that it was the last.
-- Locks: none. Errors: SF001 in any other isolation.
create or replace function stageflow.require_read_committed() returns void
language plpgsql volatile as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception using
            errcode = 'SF001',
            message = format('stageflow needs a READ COMMITTED transaction, this one is %s. '
                'Set the connection''s isolation level to READ COMMITTED before you begin it.',
                upper(current_setting('transaction_isolation')));
    end if;
end
$$;
