-- What the rows of a stage add up to: its results and task ranges, swept in index order. Stable, so that it sees what the calling
-- statement sees. o_missing: indexes below p_task_count that neither covers; o_doubled: those that are covered more than once.
-- Locks: none. Errors: none.
create or replace function stageflow.tally_stage(
    p_stage_id bigint, p_task_count integer,
    out o_open integer, out o_completed integer, out o_failed integer, out o_skipped integer, out o_cancelled integer,
    out o_missing integer, out o_first_missing integer, out o_doubled integer, out o_first_doubled integer)
language sql stable as $$
    with pieces as (
        select t.task_index as first, t.task_index + 1 as last, t.status as state
        from stageflow.results t where t.stage_id = p_stage_id
        union all
        select r.first, r.last, case when r.state in ('skipped', 'cancelled') then r.state else 'open' end
        from stageflow.ranges r where r.stage_id = p_stage_id and r.kind = 'task'
        union all
        select p_task_count, p_task_count, 'end'
    ), swept as (
        select p.*, coalesce(
            max(p.last) over (order by p.first, p.last rows between unbounded preceding and 1 preceding), 0) as before
        from pieces p
    )
    select
        coalesce(sum(s.last - s.first) filter (where s.state = 'open'), 0)::integer,
        coalesce(sum(s.last - s.first) filter (where s.state = 'completed'), 0)::integer,
        coalesce(sum(s.last - s.first) filter (where s.state = 'failed'), 0)::integer,
        coalesce(sum(s.last - s.first) filter (where s.state = 'skipped'), 0)::integer,
        coalesce(sum(s.last - s.first) filter (where s.state = 'cancelled'), 0)::integer,
        coalesce(sum(s.first - s.before) filter (where s.first > s.before), 0)::integer,
        min(s.before) filter (where s.first > s.before),
        coalesce(sum(least(s.before, s.last) - s.first) filter (where s.first < s.before), 0)::integer,
        min(s.first) filter (where s.first < s.before and s.last > s.first)
    from swept s
$$;
