update stageflow.jobs j set
    metadata = coalesce($2, j.metadata), result_data = coalesce($3, j.result_data), error_details = coalesce($4, j.error_details),
    updated_at = stageflow.clock()
where j.job_id = $1
returning true
