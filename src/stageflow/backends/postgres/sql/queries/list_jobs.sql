select j.job_id, j.job_type, j.workflow_version, j.status, j.run, j.stage, j.total_stages, j.parameters, j.metadata, j.result_data,
    j.error_details, j.idempotency_key, j.priority, j.not_before, j.created_at, j.updated_at,
    j.deadline, j.timeout_seconds
from stageflow.jobs j
where true
