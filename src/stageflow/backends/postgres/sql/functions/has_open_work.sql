-- Whether any range of these stages is still to be run, planned, advanced or reported.
-- Locks: none. Errors: none.
create or replace function stageflow.has_open_work(p_stage_ids bigint[]) returns boolean
language plpgsql volatile as $$
begin
    perform 1 from (
        select r.state from stageflow.ranges r where r.stage_id = any (p_stage_ids)
        offset 0
    ) r
    where r.state not in ('skipped', 'cancelled')
    limit 1;
    return found;
end
$$;
