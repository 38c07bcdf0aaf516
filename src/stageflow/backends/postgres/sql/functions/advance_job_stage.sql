-- Stores a stage's result and moves its job on.
-- Promise: only the holder of the advance lease closes the stage, once; the job moves only from that stage and only while it is
-- processing, so nothing advances twice and no ended job is revived. The answers are those of AdvanceOutcome; with group_closed and
-- group_failed the caller keeps the lease and ends the job.
-- Locks: the advance range, the stages of the parallel group by id, the job; then ranges of siblings, skipping locked ones.
-- Errors: SF001, SF002 where the job stands elsewhere.
create or replace function stageflow.advance_job_stage(
    p_range_id bigint, p_token bigint, p_stage_id bigint, p_status text, p_result text,
    p_numbers integer[], p_names text[], p_task_types text[], p_fail_fast boolean[], p_rates double precision[],
    p_group_firsts integer[], p_group_lasts integer[], p_skipped_results text[],
    p_worker_id text, p_lease_seconds double precision,
    out o_outcome text, out o_new_stage integer, out o_is_final boolean, out o_plan_range_id bigint)
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_stage stageflow.stages;
    v_job stageflow.jobs;
    v_kind text;
    v_gone boolean;
    v_open bigint[];
    v_failed boolean;
begin
    perform stageflow.require_read_committed();
    select s.* into v_stage from stageflow.stages s where s.stage_id = p_stage_id;
    if not found then
        raise exception using errcode = 'SF002',
            message = format('there is no stage %s; it was never opened in this database. Check the store''s address.', p_stage_id);
    end if;
    select r.kind into v_kind from stageflow.ranges r
    where r.range_id = p_range_id and r.token = p_token and r.stage_id = p_stage_id
    for update;
    if v_kind is distinct from 'advance' then
        select count(*) = 0 into v_gone from stageflow.ranges r where r.range_id = p_range_id;
        select s.* into v_stage from stageflow.stages s where s.stage_id = p_stage_id;
        o_outcome := case
            when v_gone and v_stage.stored_result is not null and stageflow.is_closed_stage(v_stage.status)
            then 'already_advanced' else 'stale' end;
        select * into o_new_stage, o_is_final from stageflow.present_stage(v_stage.job_id);
        return;
    end if;
    perform 1 from stageflow.stages s
    where s.job_id = v_stage.job_id and s.run = v_stage.run and s.group_first = v_stage.group_first
    order by s.stage_number for no key update;  -- the order of their ids too
    select j.* into v_job from stageflow.jobs j where j.job_id = v_stage.job_id for no key update;
    v_job.status := stageflow.status_in_run(v_job.status, v_job.run, v_stage.run);
    if v_job.status = 'paused' then
        update stageflow.ranges r set state = 'held', token = null, worker_id = null, lease_expires_at = null
        where r.range_id = p_range_id;
        o_outcome := 'paused';
    elsif stageflow.is_ended_job(v_job.status) then
        delete from stageflow.ranges r where r.range_id = p_range_id;
        o_outcome := 'job_ended';
    end if;
    if o_outcome is not null then
        select * into o_new_stage, o_is_final from stageflow.present_stage(v_stage.job_id);
        return;
    end if;
    perform stageflow.close_stage(p_stage_id, p_status, p_result);
    select array_agg(s.stage_id) filter (where not stageflow.is_closed_stage(s.status)),
        bool_or(s.status = 'failed')
    into v_open, v_failed
    from stageflow.stages s
    where s.job_id = v_stage.job_id and s.run = v_stage.run and s.group_first = v_stage.group_first;
    if v_open is not null then
        if v_failed then
            perform stageflow.halt_stages(v_open);
        end if;
        delete from stageflow.ranges r where r.range_id = p_range_id;
        o_outcome := 'siblings_open';
    elsif v_failed then
        o_outcome := 'group_failed';
    elsif cardinality(p_numbers) = 0 then
        o_outcome := 'group_closed';
    elsif v_job.stage <> v_stage.group_first or v_job.status not in ('queued', 'processing') or v_job.run <> v_stage.run then
        raise exception using errcode = 'SF002', message = format(
            'job %s is %s at stage %s of run %s and cannot advance from stage %s of run %s; run `stageflow doctor` and correct '
            'its rows by hand, or cancel it and submit it again.',
            v_job.job_id, v_job.status, v_job.stage, v_job.run, v_stage.group_first, v_stage.run);
    else
        o_plan_range_id := stageflow.open_stages(
            v_job.job_id, p_numbers, p_names, p_task_types, p_fail_fast, p_rates, p_group_firsts, p_group_lasts,
            p_skipped_results, p_worker_id, p_lease_seconds);
        if o_plan_range_id is null then
            raise exception using errcode = 'SF002', message = format(
                'every stage after stage %s of job %s is to be skipped; end the job with check_job_completion instead.',
                v_stage.stage_number, v_job.job_id);
        end if;
        delete from stageflow.ranges r where r.range_id = p_range_id;
        update stageflow.jobs j set status = 'processing', updated_at = v_now, stage = (
            select min(n.group_first) from unnest(p_group_firsts, p_skipped_results) as n (group_first, skipped_result)
            where n.skipped_result is null)
        where j.job_id = v_job.job_id;
        o_outcome := 'advanced';
    end if;
    select * into o_new_stage, o_is_final from stageflow.present_stage(v_stage.job_id);
end
$$;
