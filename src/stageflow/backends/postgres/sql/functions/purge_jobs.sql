-- Deletes ended jobs of one status, oldest first, each with all its runs and what belongs to them.
-- Promise: a job goes whole or not at all, and only if it has this status, was last changed before p_before, and no range of it is
-- open (so nobody holds a lease on it, and no report of it can come). o_kept counts those that were old enough and are passed over.
-- Looks at p_limit jobs from behind (p_after_created, p_after_id) on, stops behind the one that brings the tasks to p_max_tasks, and
-- answers where it stopped (null: there is none). With p_dry_run it counts, locks nothing and deletes nothing. Sizes are estimates.
-- Locks: the job, then its ranges and stages, all skipping locked ones: it waits for nobody, so the order does not matter.
-- Errors: SF001; SF002 for a status that is not an end.
create or replace function stageflow.purge_jobs(
    p_status text, p_before timestamptz, p_after_created timestamptz, p_after_id text, p_limit integer, p_max_tasks integer,
    p_dry_run boolean,
    out o_jobs integer, out o_tasks bigint, out o_bytes bigint, out o_kept integer, out o_last_created timestamptz,
    out o_last_id text)
language plpgsql volatile as $$
declare
    v_job record;
    v_stage_ids bigint[];
    v_size record;
begin
    perform stageflow.require_read_committed();
    if not stageflow.is_ended_job(p_status) then
        raise exception using errcode = 'SF002',
            message = format('jobs that are %s have not ended and are never purged; name a terminal status.', p_status);
    end if;
    o_jobs := 0;
    o_tasks := 0;
    o_bytes := 0;
    o_kept := 0;
    -- A range of one status, in the order of the index on status and creation: with an equality, that order would also be the one
    -- of the index on creation alone, along which all jobs would be read. Creation comes before every change.
    for v_job in
        select j.job_id, j.created_at from stageflow.jobs j
        where j.status between p_status and p_status and j.created_at < p_before and j.updated_at < p_before
            and (j.created_at, j.job_id || '') > (coalesce(p_after_created, '-infinity'), coalesce(p_after_id, ''))
        order by j.status desc, j.created_at, j.job_id
        limit p_limit
    loop
        o_last_created := v_job.created_at;
        o_last_id := v_job.job_id;
        v_stage_ids := array(select s.stage_id from stageflow.stages s where s.job_id = v_job.job_id);
        if not p_dry_run then
            -- By the key: as an expression, the status is no reason to walk along the index of all that ended so.
            perform 1 from stageflow.jobs j
            where j.job_id = v_job.job_id and j.status || '' = p_status and j.updated_at < p_before
            for update skip locked;
            if not found then
                o_kept := o_kept + 1;
                continue;
            end if;
            -- A run that was opened before the lock came has ended since; its stages belong to the job as well.
            v_stage_ids := array(select s.stage_id from stageflow.stages s where s.job_id = v_job.job_id);
        end if;
        if stageflow.has_open_work(v_stage_ids) or not (p_dry_run or stageflow.lock_stages(v_stage_ids)) then
            o_kept := o_kept + 1;
            continue;
        end if;
        select p.* into v_size from stageflow.size_of_job(v_job.job_id, v_stage_ids) p;
        o_jobs := o_jobs + 1;
        o_tasks := o_tasks + v_size.o_tasks;
        o_bytes := o_bytes + v_size.o_bytes;
        if not p_dry_run then
            delete from stageflow.checkpoints c where c.stage_id = any (v_stage_ids);
            delete from stageflow.partials p where p.stage_id = any (v_stage_ids);
            delete from stageflow.results t where t.stage_id = any (v_stage_ids);
            delete from stageflow.tasks t where t.stage_id = any (v_stage_ids);
            delete from stageflow.ranges r where r.stage_id = any (v_stage_ids);
            delete from stageflow.events e where e.job_id = v_job.job_id;
            delete from stageflow.stages s where s.job_id = v_job.job_id;
            delete from stageflow.slots s where s.scope = v_job.job_id;
            delete from stageflow.limits l where l.scope = v_job.job_id;
            delete from stageflow.jobs j where j.job_id = v_job.job_id;
        end if;
        exit when o_tasks >= p_max_tasks;
    end loop;
end
$$;
