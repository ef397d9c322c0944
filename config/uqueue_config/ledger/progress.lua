-- Note how far a running job is. Answers 1 when it should stop, because it was cancelled or has ended elsewhere.
look_at(ARGV[3])
local rows_done, rows_total = ARGV[4], ARGV[5]

local state = redis.call('HGET', record, 'state')
if not state or is_terminal(state) then return 1 end
-- Queued again means that its process was taken for dead. It is not, and may well be the first to answer.
redis.call('HSET', record, 'rows_done', rows_done, 'rows_total', rows_total)
return tonumber(redis.call('HGET', record, 'cancel_requested') or 0)
