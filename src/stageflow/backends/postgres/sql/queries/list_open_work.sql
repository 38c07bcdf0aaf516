-- One row a range, with how many its group has: of each group the first only. Closed ranges are few, and passed over.
select g.range_id, g.stage_id, g.kind, g.work_type, g.state, g.first, g.last, g.attempt, g.deaths, g.not_before, g.worker_id,
    g.lease_expires_at, g.renewed_at, g.current_index, g.current_since, g.error_details, g.announced_at, g.created_at,
    g.range_count, g.task_count
from (
    select r.*, count(*) over (partition by r.stage_id, r.kind, r.state)::integer as range_count,
        sum(r.last - r.first) over (partition by r.stage_id, r.kind, r.state)::integer as task_count,
        row_number() over (
            partition by r.stage_id, r.kind, r.state order by r.not_before, r.lease_expires_at, r.first, r.range_id) as place
    from unnest($1::bigint[]) as asked (stage_id)
    cross join lateral (select u.* from stageflow.ranges u where u.stage_id = asked.stage_id offset 0) r
    where r.state in ('ready', 'leased', 'waiting', 'held')
) g
where g.place <= $2::integer
order by g.stage_id, g.kind, g.state, g.place
