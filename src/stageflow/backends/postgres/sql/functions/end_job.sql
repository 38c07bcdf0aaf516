-- Fails or cancels a job.
-- Promise: the job has ended, its open stages are closed, its unleased work too; leased work may still report, and nothing
-- advances. With a token only the holder of that control lease can (and, with a beat, only while the lease was not renewed since
-- then), and only in the job's present run. Answers whether this call ended the job.
-- Locks: the control range, the unleased ranges (skipping locked ones: who meets them closes them), the stages by id, the job.
-- Errors: SF001, SF002 for another status, 40001 where the job was resubmitted meanwhile (call again).
create or replace function stageflow.end_job(
    p_job_id text, p_status text, p_error text, p_range_id bigint, p_token bigint, p_beat bigint,
    p_stage_id bigint, p_stage_status text, p_stage_result text) returns boolean
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_stage_id bigint;
    v_run integer;
    v_present_run integer;
    v_closed record;
    v_stage_ids bigint[];
    v_range_ids bigint[];
    v_status text;
begin
    perform stageflow.require_read_committed();
    if p_status not in ('failed', 'cancelled') then
        raise exception using errcode = 'SF002',
            message = format('a job is ended as failed or cancelled, not as %s; use check_job_completion for that.', p_status);
    end if;
    if p_token is not null then
        select r.stage_id into v_stage_id from stageflow.ranges r
        where r.range_id = p_range_id and r.token = p_token and (p_beat is null or r.beat = p_beat)
        for update;
        select s.run into v_run from stageflow.stages s where s.stage_id = v_stage_id and s.job_id = p_job_id;
        if not found then
            return false;
        end if;
    end if;
    if p_token is null then
        select j.run into v_run from stageflow.jobs j where j.job_id = p_job_id;
    end if;
    v_stage_ids := array(select s.stage_id from stageflow.stages s where s.job_id = p_job_id and s.run = v_run);
    v_range_ids := array(
        select r.range_id from stageflow.ranges r
        where r.stage_id = any (v_stage_ids) and r.state in ('ready', 'waiting', 'held')
        for update skip locked);
    perform 1 from stageflow.stages s where s.stage_id = any (v_stage_ids) order by s.stage_id for no key update;
    select j.status, j.run into v_status, v_present_run from stageflow.jobs j where j.job_id = p_job_id for no key update;
    if p_token is null and v_present_run <> v_run and not stageflow.is_ended_job(v_status) then
        raise exception using errcode = '40001', message = format('job %s was resubmitted just now', p_job_id);
    end if;
    v_status := stageflow.status_in_run(v_status, v_present_run, v_run);
    if p_token is not null then
        delete from stageflow.ranges r where r.range_id = p_range_id;
    end if;
    if v_status is null or stageflow.is_ended_job(v_status) then
        return false;
    end if;
    for v_closed in
        with closed as (
            update stageflow.ranges r set state = 'cancelled', closed_at = v_now, not_before = null
            where r.range_id = any (v_range_ids) and r.kind = 'task'
            returning r.stage_id, r.first, r.last
        )
        select c.stage_id, sum(c.last - c.first)::integer as width, min(c.first) as first, max(c.last) as last
        from closed c group by c.stage_id
    loop
        update stageflow.stages s set
            cancelled_tasks = s.cancelled_tasks + v_closed.width, remaining = s.remaining - v_closed.width
        where s.stage_id = v_closed.stage_id;
        perform stageflow.note_stage_event(
            v_closed.stage_id, 'tasks_cancelled', null, v_closed.first, v_closed.last, v_closed.width);
    end loop;
    delete from stageflow.ranges r where r.range_id = any (v_range_ids) and r.kind <> 'task';
    with closed as (
        update stageflow.stages s set
            status = case when s.stage_id = p_stage_id then coalesce(p_stage_status, p_status) else 'cancelled' end,
            stored_result = case when s.stage_id = p_stage_id then p_stage_result else s.stored_result end,
            updated_at = v_now
        where s.stage_id = any (v_stage_ids) and not stageflow.is_closed_stage(s.status)
        returning s.stage_number, s.generation, s.status
    )
    insert into stageflow.events (job_id, run, stage_number, generation, kind, status, detail, at)
    select p_job_id, v_run, e.stage_number, e.generation, e.kind, e.status, e.detail, stageflow.clock()
    from (
        select c.stage_number, c.generation, 'stage_closed' as kind, c.status, null as detail from closed c
        union all
        select null, null, 'job_ended', p_status, right(p_error, 500)
    ) e
    order by e.stage_number nulls last;
    update stageflow.jobs j set status = p_status, error_details = coalesce(p_error, j.error_details), updated_at = v_now
    where j.job_id = p_job_id;
    perform pg_notify('stageflow_jobs', p_job_id);
    return true;
end
$$;
