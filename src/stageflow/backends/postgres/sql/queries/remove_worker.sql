delete from stageflow.workers where worker_id = $1
