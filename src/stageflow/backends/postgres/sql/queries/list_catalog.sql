-- Everything in a schema, as sort, name and definition; names and definitions without the schema's own name.
with space as (
    select n.oid, n.nspname || '.' as prefix from pg_catalog.pg_namespace n where n.nspname = $1
), found as (
    select 'table' as sort, c.relname::text as name, c.relkind::text || ' ' || coalesce(array_to_string(c.reloptions, ', '), '')
        || case when c.relrowsecurity then ' row security' else '' end as definition
    from pg_catalog.pg_class c join space s on s.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select 'sequence', c.relname, format_type(q.seqtypid, null) || ' by ' || q.seqincrement
    from pg_catalog.pg_class c join space s on s.oid = c.relnamespace join pg_catalog.pg_sequence q on q.seqrelid = c.oid
    union all
    select 'column', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
        || case when a.attnotnull then ' not null' else '' end || ' ' || a.attidentity::text || a.attgenerated::text
        || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind = 'r'
    join space s on s.oid = c.relnamespace
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped
    union all
    select 'constraint', c.relname || '.' || k.conname,
        pg_get_constraintdef(k.oid) || case when k.convalidated then '' else ' not valid' end
    from pg_catalog.pg_constraint k
    join pg_catalog.pg_class c on c.oid = k.conrelid
    join space s on s.oid = c.relnamespace
    where k.contype <> 'n'  -- from version 18 on, not null is a constraint as well; the column tells it
    union all
    select 'index', i.relname, pg_get_indexdef(x.indexrelid) || case when x.indisvalid then '' else ' invalid' end
    from pg_catalog.pg_index x
    join pg_catalog.pg_class i on i.oid = x.indexrelid
    join space s on s.oid = i.relnamespace
    union all
    select 'trigger', c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger t
    join pg_catalog.pg_class c on c.oid = t.tgrelid
    join space s on s.oid = c.relnamespace
    where not t.tgisinternal
    union all
    select 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
        concat_ws(' ', pg_get_function_result(p.oid), p.provolatile, p.proisstrict, p.prosecdef, p.prorows,
            array_to_string(p.proconfig, ','), p.prosrc)
    from pg_catalog.pg_proc p join space s on s.oid = p.pronamespace
)
select f.sort, replace(f.name, s.prefix, ''), replace(f.definition, s.prefix, '')
from found f cross join space s
