-- Promise: the history tells of the failed ones among the reported tasks, with the first error, in one event however many.
-- Locks: none. Errors: none.
create or replace function stageflow.note_failures(p_range stageflow.ranges, p_statuses text[], p_errors text[]) returns void
language plpgsql volatile as $$
begin
    perform stageflow.note_stage_event(
        p_range.stage_id, 'tasks_failed', null, min(f.index), max(f.index) + 1, count(*)::integer, p_range.attempt,
        p_range.worker_id, (array_agg(f.error order by f.index))[1])
    from (
        select (p_range.first + q.place - 1)::integer as index, q.error
        from unnest(p_statuses, p_errors) with ordinality as q (status, error, place)
        where q.status = 'failed'
    ) f;
end
$$;
