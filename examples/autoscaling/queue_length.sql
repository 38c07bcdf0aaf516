-- How many tasks of some work types are ready, leased, or due again. keda-postgresql.yaml and container-apps.yaml ask this.
--
-- A work type is JOB_TYPE/VERSION for planning and advancing, and JOB_TYPE/VERSION/TASK_TYPE for tasks: name all that the
-- workers know. Leased work counts, so that no worker is taken away from its work, and one stays to take over the leases of a
-- dead one. Delayed work that is due counts, because only a worker opens it.
-- Each part follows the index that serves it (ranges_ready, ranges_waiting, ranges_leased) and ends after 1,000 ranges: an
-- answer costs the same however much waits, and what is left out is more than the largest number of workers can do anyway.
with asked (work_types) as (
    values (array['primes/1', 'primes/1/primes_count', 'primes/1/primes_total'])
)
select coalesce(sum(work.tasks), 0)
from asked
cross join lateral (
    select claimable.tasks
    from unnest(asked.work_types) as t (work_type)
    cross join lateral (
        (select r.last - r.first as tasks from stageflow.ranges r
        where r.work_type = t.work_type and r.state = 'ready'
        order by -r.priority, r.turn, r.range_id limit 1000)
        union all
        (select r.last - r.first from stageflow.ranges r
        where r.work_type = t.work_type and r.state = 'waiting' and r.not_before <= now()
        order by r.not_before limit 1000)
    ) claimable
    union all
    (select r.last - r.first from stageflow.ranges r
    where r.state = 'leased' and r.work_type = any (asked.work_types)
    order by r.lease_expires_at limit 1000)
) work
