-- By the server's own clock, which is the one that its transactions go by. Those of other databases keep nothing here alive.
select o.holder, o.since
from (
    select 'process ' || a.pid::text || ' (' || coalesce(nullif(a.application_name, ''), 'no application name') || ', '
        || coalesce(a.state, 'unknown state') || ')' as holder, a.xact_start as since
    from pg_catalog.pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid()
        and (a.backend_xmin is not null or a.backend_xid is not null)
    union all
    select 'prepared transaction ' || p.gid, p.prepared
    from pg_catalog.pg_prepared_xacts p where p.database = current_database()
) o
where o.since < clock_timestamp() - make_interval(secs => $1)
order by o.since
