insert into stageflow.workers (worker_id, host, pid, slots, work_types, started_at, seen_at)
values ($1, $2, $3, $4, $5::text[], $6, stageflow.clock())
on conflict (worker_id) do update set
    host = excluded.host, pid = excluded.pid, slots = excluded.slots, work_types = excluded.work_types,
    started_at = excluded.started_at, seen_at = excluded.seen_at
