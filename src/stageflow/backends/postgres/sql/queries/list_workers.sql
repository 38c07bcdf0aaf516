select w.worker_id, w.host, w.pid, w.slots, w.work_types, w.started_at, w.seen_at
from stageflow.workers w
where w.seen_at >= stageflow.clock() - make_interval(secs => $1::double precision)
order by w.worker_id
