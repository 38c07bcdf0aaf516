-- Promise: the queued ones among the reported tasks go back for another attempt; neighbours with one delay as one range. The
-- history tells of them in one event, with the first error and the attempt that failed.
-- Locks: the caller holds the range. Errors: none.
create or replace function stageflow.retry_tasks(
    p_range stageflow.ranges, p_statuses text[], p_delays double precision[], p_errors text[]) returns void
language plpgsql volatile as $$
declare
    v_now timestamptz := stageflow.clock();
begin
    if 0 = any (p_delays) then
        perform stageflow.wake_workers(p_range.work_type);
    end if;
    insert into stageflow.ranges (
        stage_id, kind, work_type, generation, first, last, attempt, state, priority, turn, deaths, not_before, error_details,
        created_at)
    select p_range.stage_id, 'task', p_range.work_type, p_range.generation, min(t.index), max(t.index) + 1, p_range.attempt + 1,
        case when t.delay > 0 then 'waiting' else 'ready' end, p_range.priority, p_range.turn,
        case when p_range.last - p_range.first = 1 then p_range.deaths else 0 end,
        case when t.delay > 0 then v_now + make_interval(secs => t.delay) end,
        (array_agg(t.error order by t.index))[1], v_now
    from (
        select (p_range.first + q.place - 1)::integer as index, q.delay, q.error,
            q.place - row_number() over (partition by q.delay order by q.place) as island
        from unnest(p_statuses, p_delays, p_errors) with ordinality as q (status, delay, error, place)
        where q.status = 'queued'
    ) t
    group by t.delay, t.island;
    perform stageflow.note_stage_event(
        p_range.stage_id, 'tasks_retried', null, min(f.index), max(f.index) + 1, count(*)::integer, p_range.attempt,
        p_range.worker_id, (array_agg(f.error order by f.index))[1])
    from (
        select (p_range.first + q.place - 1)::integer as index, q.error
        from unnest(p_statuses, p_errors) with ordinality as q (status, error, place)
        where q.status = 'queued'
    ) f;
end
$$;
