-- Promise: the sentence for the first of the asked jobs, in the order asked, that could not be created because another job (stored, or
-- asked before it) holds its idempotency key. SQLite says it in the same words.
-- Locks: none. Errors: none.
create or replace function stageflow.taken_key(p_job_ids text[], p_job_types text[], p_keys text[]) returns text
language plpgsql volatile as $$
declare
    v_taken record;
begin
    select a.* into v_taken
    from (
        select k.*, coalesce(
            (select j.job_id from stageflow.jobs j
                where j.job_type = k.job_type and j.idempotency_key = k.key and j.idempotency_key <> ''),
            first_value(k.job_id) over (partition by k.job_type, k.key order by k.place)) as holder
        from unnest(p_job_ids, p_job_types, p_keys) with ordinality as k (job_id, job_type, key, place)
        where k.key <> '' and not exists (select 1 from stageflow.jobs j where j.job_id = k.job_id)
    ) a
    where a.holder <> a.job_id
    order by a.place
    limit 1;
    if not found then
        return 'an idempotency key was held by a job that is gone again; nothing was created, call again';
    end if;
    return format(
        'idempotency key ''%s'' of %s belongs to job %s, which has other parameters than job %s; nothing was created: use another '
        'key, or send the same parameters', v_taken.key, v_taken.job_type, v_taken.holder, v_taken.job_id);
end
$$;
