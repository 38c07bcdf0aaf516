select h.event_id, h.job_id, h.run, h.stage_number, h.generation, h.kind, h.status, h.first, h.last, h.tasks, h.attempt,
    h.worker_id, h.detail, h.at
from (
    select n.event_id, j.job_id, 1 as run, n.stage_number, n.stage_number as generation, n.kind, null::text as status,
        null::integer as first, null::integer as last, null::integer as tasks, null::integer as attempt, null::text as worker_id,
        null::text as detail, j.created_at as at
    from stageflow.jobs j
    cross join (values (-1::bigint, 'job_submitted', null::integer), (0, 'stage_opened', 1)) as n (event_id, kind, stage_number)
    where j.job_id = $1::text and n.event_id > $2::bigint
    union all
    (select e.event_id, e.job_id, e.run, e.stage_number, e.generation, e.kind, e.status, e.first, e.last, e.tasks, e.attempt,
        e.worker_id, e.detail, e.at
    from stageflow.events e
    where e.job_id = $1::text and e.event_id > $2::bigint
    order by e.job_id, e.event_id limit $3::integer)
) h
order by h.event_id limit $3::integer
