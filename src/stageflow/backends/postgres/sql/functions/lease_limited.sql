-- lease_range where there are limits. Promise: the lease holds a slot of its task type and one of its job, where these are limited,
-- and has no more tasks than its type's rate has granted starts. Otherwise nothing is leased, and o_refusal says by what: 'paused'
-- or 'type' or 'job', with the seconds after which to look again.
-- Locks: the caller holds the range; then the row of the type's scope (a rate) and slots, skipping locked ones. Errors: none.
create or replace function stageflow.lease_limited(
    p_range stageflow.ranges, p_first integer, p_last integer, p_worker_id text, p_lease_seconds double precision,
    out o_range_id bigint, out o_refusal text, out o_again_seconds double precision)
language plpgsql volatile as $$
declare
    v_type stageflow.limits;
    v_job stageflow.limits;
    v_type_slot integer;
    v_job_slot integer;
    v_spent_at timestamptz;
    v_tasks integer := p_last - p_first;
    v_token bigint;
begin
    if p_range.kind <> 'task' then
        o_range_id := stageflow.lease_range(p_range, p_first, p_last, p_worker_id, p_lease_seconds);
        return;
    end if;
    select l.* into v_type from stageflow.limits l where l.scope = stageflow.type_scope(p_range.work_type);
    if v_type.paused_at is not null then
        o_refusal := 'paused';
        return;
    end if;
    if v_type.max_per_second is not null then
        select l.spent_at into v_spent_at from stageflow.limits l
        where l.scope = v_type.scope for no key update skip locked;
        if found then
            v_type.spent_at := v_spent_at;
            select a.o_tasks, a.o_again_seconds into v_tasks, o_again_seconds from stageflow.allowed_tasks(v_type, v_tasks) a;
        end if;
        if not found or v_tasks = 0 then
            o_refusal := 'type';
            o_again_seconds := coalesce(o_again_seconds, 0.005 + random() * 0.01);
            return;
        end if;
    end if;
    if v_type.max_running is not null then
        v_type_slot := stageflow.take_slot(v_type.scope, v_type.max_running);
        if v_type_slot is null then
            o_refusal := 'type';
            o_again_seconds := 0.1 + random() * 0.2;
            return;
        end if;
    end if;
    select l.* into v_job from stageflow.limits l
    where l.scope = (select s.job_id from stageflow.stages s where s.stage_id = p_range.stage_id);
    if v_job.max_running is not null then
        v_job_slot := stageflow.take_slot(v_job.scope, v_job.max_running);
        if v_job_slot is null then
            o_refusal := 'job';
            o_again_seconds := 0.1 + random() * 0.2;
            return;
        end if;
    end if;
    o_range_id := stageflow.lease_range(p_range, p_first, p_first + v_tasks, p_worker_id, p_lease_seconds);
    if v_type.max_per_second is not null then
        update stageflow.limits l set
            spent_at = stageflow.clock() + make_interval(secs => (
                v_tasks - stageflow.granted_starts(l.spent_at, l.max_per_second)) / l.max_per_second)
        where l.scope = v_type.scope;
    end if;
    if v_type_slot is not null or v_job_slot is not null then
        select r.token into v_token from stageflow.ranges r where r.range_id = o_range_id;
        update stageflow.slots s set range_id = o_range_id, token = v_token
        where s.scope = v_type.scope and s.number = v_type_slot;
        update stageflow.slots s set range_id = o_range_id, token = v_token
        where s.scope = v_job.scope and s.number = v_job_slot;
    end if;
end
$$;
