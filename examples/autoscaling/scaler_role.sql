-- The role of an autoscaler: it may count ranges and read nothing that a job was given or answered. Run it once, as the owner
-- of the schema; give the role its password or certificate by your own means.
create role stageflow_scaler login connection limit 4;
grant usage on schema stageflow to stageflow_scaler;
grant select (work_type, state, first, last, priority, turn, range_id, not_before, lease_expires_at)
    on stageflow.ranges to stageflow_scaler;
alter role stageflow_scaler set statement_timeout = '5s';
alter role stageflow_scaler set default_transaction_read_only = on;
