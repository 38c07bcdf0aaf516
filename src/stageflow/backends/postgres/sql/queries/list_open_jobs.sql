select j.job_id from stageflow.jobs j where j.status in ('queued', 'processing', 'paused') order by j.job_id
