-- Deletes dead letters that were parked before p_before and are no longer open, oldest first.
-- Promise: at most p_limit; an open one stays. With p_dry_run it only counts. Bytes are an estimate.
-- Locks: the letters, skipping locked ones. Errors: SF001.
create or replace function stageflow.purge_letters(
    p_before timestamptz, p_limit integer, p_dry_run boolean, out o_letters integer, out o_bytes bigint)
language plpgsql volatile as $$
begin
    perform stageflow.require_read_committed();
    if p_dry_run then
        select count(*), coalesce(sum(l.size), 0) into o_letters, o_bytes
        from (
            select 200 + pg_column_size(d.body) + pg_column_size(d.reason) as size from stageflow.dead_letters d
            where d.state <> 'open' and d.created_at < p_before
            order by d.letter_id limit p_limit
        ) l;
        return;
    end if;
    with gone as (
        delete from stageflow.dead_letters l
        where l.letter_id = any (array(
            select d.letter_id from stageflow.dead_letters d
            where d.state <> 'open' and d.created_at < p_before
            order by d.letter_id limit p_limit for update skip locked))
        returning 200 + pg_column_size(l.body) + pg_column_size(l.reason) as size
    )
    select count(*), coalesce(sum(g.size), 0) into o_letters, o_bytes from gone g;
end
$$;
