-- Parking a message again leaves its letter as it is; the empty update only makes the row come back.
insert into stageflow.dead_letters (queue, message_id, body, reason, delivery_count, created_at)
values ($1, $2, $3, $4, $5, stageflow.clock())
on conflict (queue, message_id) do update set queue = excluded.queue
returning queue, message_id, body, reason, delivery_count, letter_id, state, created_at
