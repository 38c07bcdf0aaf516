-- One row a job and stage of its present run; a job has at least one.
select s.*
from unnest($1::text[]) with ordinality as asked (job_id, place)
cross join lateral stageflow.read_job_state(asked.job_id) s
order by asked.place, s.stage_number
