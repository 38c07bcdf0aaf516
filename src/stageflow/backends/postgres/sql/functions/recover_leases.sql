-- Returns the work of dead workers: the given leases if their beat still stands where it was seen, or (p_range_ids null) those that
-- expired by the store's clock.
-- Promise: the token is erased, so the dead can write no more. A range of several tasks goes back uncharged, to be run singly; a
-- range of one is charged with a death, and fails when the budget is spent. Tasks of an ended job or a halted stage are closed.
-- Control work that spent its budget is left alone and answered in the list, for end_job.
-- Locks: ranges, skipping locked ones; then stages by id. Errors: SF001.
create or replace function stageflow.recover_leases(
    p_range_ids bigint[], p_tokens bigint[], p_beats bigint[], p_death_budget integer, p_limit integer,
    out o_returned integer, out o_quarantined integer, out o_closed integer, out o_spent_range_ids bigint[])
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
    v_range stageflow.ranges;
    v_status text;
    v_halted boolean;
    v_state text;
    v_seen record;
    v_ids bigint[];
    v_stage_ids bigint[] := '{}';
    v_failed integer[] := '{}';
    v_skipped integer[] := '{}';
    v_cancelled integer[] := '{}';
    v_stage record;
begin
    perform stageflow.require_read_committed();
    o_returned := 0;
    o_quarantined := 0;
    o_closed := 0;
    o_spent_range_ids := '{}';
    if p_range_ids is null then
        v_ids := array(
            select r.range_id from stageflow.ranges r where r.state = 'leased' and r.lease_expires_at < v_now
            order by r.lease_expires_at limit p_limit for update skip locked);
    else
        v_ids := '{}';
        for v_seen in
            select g.* from unnest(p_range_ids, p_tokens, p_beats) as g (range_id, token, beat) limit p_limit
        loop
            v_ids := v_ids || array(
                select r.range_id from stageflow.ranges r
                where r.range_id = v_seen.range_id and r.token = v_seen.token and r.beat = v_seen.beat
                for update skip locked);
        end loop;
    end if;
    for v_range in select r.* from stageflow.ranges r where r.range_id = any (v_ids) order by r.range_id loop
        select stageflow.status_in_run(j.status, j.run, s.run), s.halted into v_status, v_halted from stageflow.stages s
        cross join lateral (select j.status, j.run from stageflow.jobs j where j.job_id = s.job_id offset 0) j
        where s.stage_id = v_range.stage_id;
        if stageflow.is_ended_job(v_status) or (v_halted and v_range.kind = 'task') then
            o_closed := o_closed + 1;
            if v_range.kind <> 'task' then
                delete from stageflow.ranges r where r.range_id = v_range.range_id;
                continue;
            end if;
            v_state := case when stageflow.is_ended_job(v_status) then 'cancelled' else 'skipped' end;
            update stageflow.ranges r set
                state = v_state, closed_at = v_now, token = null, worker_id = null, lease_expires_at = null
            where r.range_id = v_range.range_id;
            perform stageflow.note_stage_event(
                v_range.stage_id, 'tasks_' || v_state, null, v_range.first, v_range.last, v_range.last - v_range.first);
            v_stage_ids := v_stage_ids || v_range.stage_id;
            v_failed := v_failed || 0;
            v_skipped := v_skipped || case when v_state = 'skipped' then v_range.last - v_range.first else 0 end;
            v_cancelled := v_cancelled || case when v_state = 'cancelled' then v_range.last - v_range.first else 0 end;
        elsif v_range.last - v_range.first = 1 and v_range.deaths + 1 >= p_death_budget then
            if v_range.kind <> 'task' then
                o_spent_range_ids := o_spent_range_ids || v_range.range_id;
                continue;
            end if;
            o_quarantined := o_quarantined + 1;
            insert into stageflow.results (
                stage_id, task_index, generation, attempt, status, error_details, seconds, token, completed_at)
            values (
                v_range.stage_id, v_range.first, v_range.generation, v_range.attempt, 'failed', format(
                    'worker died %s times while it ran this task alone; find what kills it, then submit the work as another job.',
                    v_range.deaths + 1), 0, 0, v_now);
            delete from stageflow.checkpoints c where c.stage_id = v_range.stage_id and c.task_index = v_range.first;
            delete from stageflow.ranges r where r.range_id = v_range.range_id;
            perform stageflow.note_stage_event(
                v_range.stage_id, 'task_quarantined', 'failed', v_range.first, v_range.last, 1, v_range.attempt, v_range.worker_id,
                format('workers that died while they ran it alone: %s', v_range.deaths + 1));
            v_stage_ids := v_stage_ids || v_range.stage_id;
            v_failed := v_failed || 1;
            v_skipped := v_skipped || 0;
            v_cancelled := v_cancelled || 0;
        else
            o_returned := o_returned + 1;
            perform stageflow.wake_workers(v_range.work_type);
            update stageflow.ranges r set
                state = 'ready', token = null, worker_id = null, lease_expires_at = null, current_index = null,
                current_since = null, announced_at = null, suspect = r.suspect or r.kind = 'task',
                deaths = r.deaths + case when r.last - r.first = 1 then 1 else 0 end
            where r.range_id = v_range.range_id;
            perform stageflow.note_stage_event(
                v_range.stage_id, case v_range.kind when 'task' then 'tasks' when 'plan' then 'planning' else 'advancing' end
                    || '_recovered', null,
                case when v_range.kind = 'task' then v_range.first end, case when v_range.kind = 'task' then v_range.last end,
                case when v_range.kind = 'task' then v_range.last - v_range.first end, v_range.attempt, v_range.worker_id,
                case when v_range.last - v_range.first = 1
                    then format('workers that died while they ran it alone: %s', v_range.deaths + 1) end);
        end if;
    end loop;
    for v_stage in
        select c.stage_id, sum(c.failed)::integer as failed, sum(c.skipped)::integer as skipped,
            sum(c.cancelled)::integer as cancelled
        from unnest(v_stage_ids, v_failed, v_skipped, v_cancelled) as c (stage_id, failed, skipped, cancelled)
        group by c.stage_id order by c.stage_id
    loop
        perform stageflow.count_down(v_stage.stage_id, 0, v_stage.failed, v_stage.skipped, v_stage.cancelled, null, 0);
    end loop;
end
$$;
