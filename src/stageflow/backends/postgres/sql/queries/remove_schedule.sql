delete from stageflow.schedules s where s.name = $1 returning true
