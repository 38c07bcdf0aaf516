-- Records what became of prefixes of leased ranges, of any number of stages and jobs, in one transaction.
-- Promise: each result is written once, its range moves with it, and of all calls for a stage exactly one completion is told that
-- it was the last; it also gets the lease on the advancement. A report whose token is not the range's changes nothing ('stale', or
-- 'already_recorded' where this very report was written before) and does not hinder the others. Of a report that reaches beyond a task
-- which an operator took out of the range, what is before that task is recorded, and the lease ends with it.
-- The first five lists are parallel, one element a report; the next have one element a task, report after report, and may be
-- empty where all are null (p_statuses: all completed). The p_partial lists are parallel, one element a partial; its place is that
-- of its report, from 1. Partials are written with the results they combine; one that reaches beyond what is recorded is not.
-- Locks: ranges by id, then stages by id (the counters, as the last statement), then (count_down) the job. Errors: SF001, SF002.
create or replace function stageflow.complete_tasks(
    p_range_ids bigint[], p_tokens bigint[], p_stage_ids bigint[], p_firsts integer[], p_counts integer[],
    p_statuses text[], p_results text[], p_errors text[], p_delays double precision[],
    p_seconds double precision[], p_completed_at double precision[],
    p_partial_places integer[], p_partial_firsts integer[], p_partial_lasts integer[], p_partial_tasks integer[],
    p_partial_values text[],
    p_worker_id text, p_lease_seconds double precision)
returns table (
    place integer, outcome text, is_last boolean, job_id text, stage_number integer, remaining integer, halted boolean,
    advance_range_id bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
    v_now timestamptz := stageflow.clock();
    v_report record;
    v_range stageflow.ranges;
    v_stage record;
    v_count record;
    v_places integer[] := '{}';
    v_stage_ids bigint[] := '{}';
    v_outcomes text[] := '{}';
    v_counts integer[];
    v_completed integer[] := '{}';
    v_failed integer[] := '{}';
    v_skipped integer[] := '{}';
    v_cancelled integer[] := '{}';
    v_retried integer[] := '{}';
    v_closed integer;
    v_lo integer;
    v_hi integer;
begin
    perform stageflow.require_read_committed();
    for v_report in
        select r.*, (sum(r.count) over (order by r.place))::integer as upto
        from unnest(p_range_ids, p_tokens, p_stage_ids, p_firsts, p_counts)
            with ordinality as r (range_id, token, stage_id, first, count, place)
        order by r.range_id, r.first, r.place
    loop
        v_places := v_places || v_report.place::integer;
        v_stage_ids := v_stage_ids || v_report.stage_id;
        select r.* into v_range from stageflow.ranges r where r.range_id = v_report.range_id for update;
        if not found or v_range.token is distinct from v_report.token or v_range.first > v_report.first then
            perform 1 from stageflow.results t
            where t.stage_id = v_report.stage_id and t.task_index >= v_report.first
                and t.task_index < v_report.first + v_report.count and t.token = v_report.token
            limit 1;
            if found then
                v_outcomes := v_outcomes || 'already_recorded'::text;
            else
                v_outcomes := v_outcomes || 'stale'::text;
                perform stageflow.note_stage_event(
                    v_report.stage_id, 'stale_report', null, v_report.first, v_report.first + v_report.count, v_report.count, null,
                    p_worker_id);
            end if;
            v_completed := v_completed || 0; v_failed := v_failed || 0; v_skipped := v_skipped || 0;
            v_cancelled := v_cancelled || 0; v_retried := v_retried || 0;
            continue;
        end if;
        v_lo := v_report.upto - v_report.count + 1;
        if v_report.first + v_report.count > v_range.last and v_range.first = v_report.first and stageflow.was_cut(v_range) then
            v_report.count := v_range.last - v_range.first;
        end if;
        if v_range.stage_id <> v_report.stage_id or v_range.kind <> 'task' or v_range.first < v_report.first
            or v_report.first + v_report.count > v_range.last
        then
            raise exception using errcode = 'SF002', message = format(
                'tasks [%s, %s) of stage %s were reported for the lease of %s work [%s, %s) of stage %s; report a prefix of what '
                'was leased.', v_report.first, v_report.first + v_report.count, v_report.stage_id, v_range.kind, v_range.first,
                v_range.last, v_range.stage_id);
        end if;
        v_hi := v_lo + v_report.count - 1;
        insert into stageflow.results (
            stage_id, task_index, generation, attempt, status, result, error_details, seconds, token, completed_at)
        select v_range.stage_id, v_range.first + (t.place - 1)::integer, v_range.generation, v_range.attempt,
            coalesce(t.status, 'completed'), t.result, t.error, t.seconds, v_range.token, to_timestamp(t.completed_at)
        from unnest(
            p_seconds[v_lo:v_hi], p_completed_at[v_lo:v_hi], p_statuses[v_lo:v_hi], p_results[v_lo:v_hi], p_errors[v_lo:v_hi]
        ) with ordinality as t (seconds, completed_at, status, result, error, place)
        where t.status is distinct from 'queued';
        if cardinality(p_partial_places) > 0 then
            insert into stageflow.partials (stage_id, generation, first, last, successful_tasks, value)
            select v_range.stage_id, v_range.generation, p.first, p.last, p.tasks, p.value
            from unnest(p_partial_places, p_partial_firsts, p_partial_lasts, p_partial_tasks, p_partial_values)
                as p (place, first, last, tasks, value)
            where p.place = v_report.place and p.last <= v_report.first + v_report.count;
        end if;
        if cardinality(p_statuses) = 0 then
            v_counts := array[v_report.count, 0, 0, 0, 0];
        else
            select array[count(*) filter (where t.status = 'completed'), count(*) filter (where t.status = 'failed'),
                count(*) filter (where t.status = 'skipped'), count(*) filter (where t.status = 'cancelled'),
                count(*) filter (where t.status = 'queued')] into v_counts
            from unnest(p_statuses[v_lo:v_hi]) as t (status);
        end if;
        if v_range.checkpointed or v_range.suspect or v_range.attempt > 1 then
            -- Who ran a task of the range before left one of these marks; other tasks keep nothing.
            delete from stageflow.checkpoints c
            where c.stage_id = v_range.stage_id and c.task_index >= v_range.first
                and c.task_index < v_range.first + v_report.count
                and p_statuses[v_lo + c.task_index - v_range.first] is distinct from 'queued';
        end if;
        if v_counts[2] > 0 then
            perform stageflow.note_failures(v_range, p_statuses[v_lo:v_hi], p_errors[v_lo:v_hi]);
        end if;
        if v_counts[5] > 0 then
            perform stageflow.retry_tasks(v_range, p_statuses[v_lo:v_hi], p_delays[v_lo:v_hi], p_errors[v_lo:v_hi]);
        end if;
        if v_report.first + v_report.count = v_range.last then
            delete from stageflow.ranges r where r.range_id = v_range.range_id;
        else
            update stageflow.ranges r set
                first = v_range.first + v_report.count, current_index = v_range.first + v_report.count, current_since = v_now
            where r.range_id = v_range.range_id;
        end if;
        v_outcomes := v_outcomes || 'recorded'::text;
        v_completed := v_completed || v_counts[1]; v_failed := v_failed || v_counts[2]; v_skipped := v_skipped || v_counts[3];
        v_cancelled := v_cancelled || v_counts[4]; v_retried := v_retried || v_counts[5];
    end loop;

    for v_stage in
        select c.stage_id, sum(c.completed)::integer as completed, sum(c.failed)::integer as failed,
            sum(c.skipped)::integer as skipped, sum(c.cancelled)::integer as cancelled, sum(c.retried)::integer as retried,
            max(c.place) filter (where c.outcome = 'recorded') as last_place
        from unnest(v_stage_ids, v_completed, v_failed, v_skipped, v_cancelled, v_retried, v_places, v_outcomes)
            as c (stage_id, completed, failed, skipped, cancelled, retried, place, outcome)
        group by c.stage_id
        order by c.stage_id
    loop
        v_closed := 0;
        if v_stage.retried > 0 then
            perform 1 from stageflow.stages s
            cross join lateral (select j.status, j.run from stageflow.jobs j where j.job_id = s.job_id offset 0) j
            where s.stage_id = v_stage.stage_id and stageflow.is_ended_job(stageflow.status_in_run(j.status, j.run, s.run));
            if found then
                v_closed := stageflow.close_ranges(v_stage.stage_id, 'cancelled');
            end if;
        end if;
        if v_stage.last_place is not null then
            select c.* into v_count from stageflow.count_down(
                v_stage.stage_id, v_stage.completed, v_stage.failed, v_stage.skipped, v_stage.cancelled + v_closed,
                p_worker_id, p_lease_seconds) c;
        else
            select s.job_id as o_job_id, s.stage_number as o_stage_number, s.remaining as o_remaining, s.halted as o_halted,
                false as o_is_last, null::bigint as o_advance_range_id
            into v_count from stageflow.stages s where s.stage_id = v_stage.stage_id;
            if not found then
                raise exception using errcode = 'SF002', message = format(
                    'there is no stage %s; it was never opened in this database, or its job was purged. Check the store''s address.',
                    v_stage.stage_id);
            end if;
        end if;
        return query
        select c.place, c.outcome, v_count.o_is_last and c.place = v_stage.last_place, v_count.o_job_id, v_count.o_stage_number,
            v_count.o_remaining, v_count.o_halted, case when c.place = v_stage.last_place then v_count.o_advance_range_id end
        from unnest(v_stage_ids, v_places, v_outcomes) as c (stage_id, place, outcome)
        where c.stage_id = v_stage.stage_id;
    end loop;
end
$$;
