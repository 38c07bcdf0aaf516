-- Tasks with the status that follows from their newest result, else from the range that holds them.
select t.task_index, t.key, t.parameters, s.task_type, j.job_type, s.created_at,
    case
        when d.status is not null and (r.range_id is null or d.generation >= r.generation) then d.status
        when r.state = 'leased' then 'processing'
        when r.state in ('skipped', 'cancelled') then r.state
        else 'queued'
    end,
    case when d.status is not null and (r.range_id is null or d.generation >= r.generation) then d.attempt
        else coalesce(r.attempt, 1) end,
    case when d.status is not null and (r.range_id is null or d.generation >= r.generation) then d.result end,
    case when d.status is not null and (r.range_id is null or d.generation >= r.generation) then d.error_details
        when r.state = 'skipped' then 'skipped: the stage was halted'
        when r.state = 'cancelled' then 'cancelled: the job had ended'
        else r.error_details end,
    case when r.state = 'leased' then r.renewed_at end,
    coalesce(case when d.status is not null and (r.range_id is null or d.generation >= r.generation) then d.completed_at
        else r.closed_at end, s.updated_at)
from (
    select s.*, coalesce(s.taken_from, s.stage_id) as source_id from stageflow.stages s
    where s.job_id = $1 and s.run = $2::integer and s.stage_number = $3::integer
    offset 0
) s
cross join lateral (select j.job_type from stageflow.jobs j where j.job_id = s.job_id offset 0) j
cross join lateral (
    select p.* from stageflow.tasks p
    where p.stage_id = s.source_id and p.task_index >= $4::integer
    order by p.task_index limit $5::integer
) t
left join lateral (
    select q.* from stageflow.results q
    where q.stage_id = s.source_id and q.task_index = t.task_index
    order by q.generation desc limit 1
) d on true
left join lateral (
    -- In a stage of one generation the range that begins last before the task is the one that holds it: one row to read, however
    -- many ranges there are.
    (select h.* from stageflow.ranges h
    where h.stage_id = s.source_id and h.kind = 'task' and h.first <= t.task_index and h.last > t.task_index
        and d.generation is null and s.generation = 1
    order by h.first desc limit 1)
    union all
    (select h.* from stageflow.ranges h
    where h.stage_id = s.source_id and h.kind = 'task' and h.first <= t.task_index and h.last > t.task_index
        and (d.generation is null or d.generation < s.generation) and s.generation > 1
    order by h.generation desc limit 1)
) r on true
order by t.task_index
