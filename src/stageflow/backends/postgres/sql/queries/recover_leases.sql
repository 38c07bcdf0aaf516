select l.o_returned, l.o_quarantined, l.o_closed, l.o_spent_range_ids
from stageflow.recover_leases($1::bigint[], $2::bigint[], $3::bigint[], $4::integer, $5::integer) l
