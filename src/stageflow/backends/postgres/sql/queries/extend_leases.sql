select e.token, e.stopping
from stageflow.extend_leases($1::bigint[], $2::bigint[], $3::integer[], $4::double precision) e
