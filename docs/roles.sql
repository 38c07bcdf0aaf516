-- The least that three roles of stageflow need on PostgreSQL. Run it as the owner of the schema `stageflow`, after every
-- `stageflow migrate`: a migration may bring new tables. All functions run with the rights of who calls them.
create role stageflow_worker login;
create role stageflow_submitter login;
create role stageflow_reader login;

-- Nobody but the owner makes tables, temporary ones included, so that nobody can shadow ours.
do $$ begin
    execute format('revoke create, temporary on database %I from public', current_database());
end $$;
revoke create on schema public from public;

grant usage on schema stageflow to stageflow_worker, stageflow_submitter, stageflow_reader;
grant select on all tables in schema stageflow to stageflow_worker, stageflow_reader;

-- A worker runs jobs. Deleting jobs and dead letters (`stageflow purge`), and the schema itself, stay with the owner.
grant insert, update on
    stageflow.jobs, stageflow.stages, stageflow.tasks, stageflow.results, stageflow.partials, stageflow.checkpoints,
    stageflow.ranges, stageflow.horizons, stageflow.workers, stageflow.dead_letters, stageflow.limits, stageflow.slots,
    stageflow.schedules to stageflow_worker;
grant insert on stageflow.events to stageflow_worker;
grant delete on
    stageflow.stages, stageflow.tasks, stageflow.results, stageflow.partials, stageflow.checkpoints, stageflow.ranges,
    stageflow.horizons, stageflow.workers, stageflow.schedules to stageflow_worker;
grant usage on all sequences in schema stageflow to stageflow_worker;

-- A submitter creates jobs and reads what became of them.
grant select on
    stageflow.jobs, stageflow.stages, stageflow.results, stageflow.ranges, stageflow.horizons, stageflow.limits, stageflow.slots,
    stageflow.migrations, stageflow.functions
    to stageflow_submitter;
grant insert on stageflow.jobs, stageflow.stages, stageflow.ranges, stageflow.limits, stageflow.slots to stageflow_submitter;
