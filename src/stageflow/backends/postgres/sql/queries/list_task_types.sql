-- For people: counted over the ranges that are open, not over tasks' rows.
with open as (
    select stageflow.type_scope(r.work_type) as scope, count(*) filter (where r.state = 'leased') as running,
        coalesce(sum(r.last - r.first) filter (where r.state = 'ready'), 0) as ready
    from stageflow.ranges r
    where r.kind = 'task' and r.state in ('ready', 'leased')
    group by 1
)
select split_part(s.scope, '/', 1), split_part(s.scope, '/', 2), l.max_running, l.max_per_second, l.declared_max_running,
    l.declared_max_per_second, coalesce(l.overridden, false), l.paused_at, coalesce(o.running, 0), coalesce(o.ready, 0),
    case when l.max_per_second is not null then
        stageflow.clock() + make_interval(
            secs => greatest(0, 1 - stageflow.granted_starts(l.spent_at, l.max_per_second)) / l.max_per_second)
    end
from (select l.scope from stageflow.limits l where l.scope like '%/%' union select o.scope from open o) s
left join stageflow.limits l on l.scope = s.scope
left join open o on o.scope = s.scope
order by s.scope
