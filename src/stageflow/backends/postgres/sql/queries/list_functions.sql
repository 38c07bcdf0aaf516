-- Functions as recorded when they were made, and whether their source is still that.
select f.name, f.checksum, coalesce(f.source_hash = md5(p.prosrc), false)
from stageflow.functions f
left join pg_catalog.pg_proc p on p.proname = f.name and p.pronamespace = 'stageflow'::regnamespace
