-- The expressions are those of the indexes; the jobs of late stages are looked up by their key.
(select j.job_id, j.run, null::integer, j.deadline
from stageflow.jobs j
where (case when j.status in ('queued', 'processing', 'paused') then j.deadline end) <= stageflow.clock()
order by (case when j.status in ('queued', 'processing', 'paused') then j.deadline end) limit $1::integer)
union all
(select s.job_id, s.run, s.stage_number, s.deadline
from stageflow.stages s
cross join lateral (
    select j.run, j.status from stageflow.jobs j where j.job_id = s.job_id offset 0
) j
where (case when s.status in ('pending', 'planning', 'processing') then s.deadline end) <= stageflow.clock()
    and j.run = s.run and not stageflow.is_ended_job(j.status)
order by (case when s.status in ('pending', 'planning', 'processing') then s.deadline end) limit $1::integer)
