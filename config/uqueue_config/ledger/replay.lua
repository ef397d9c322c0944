-- Publish a dead letter again and forget it. A job that was given up is open again, with its attempts counted anew.
-- Answers {verdict, queue, message}: replayed, unknown, cut (not kept whole) or answered (its job has
-- another outcome by now). Queue and message are for a caller whose queues are in another Redis.
local number, queue_is_here = ARGV[3], ARGV[4] == '1'

local fields = redis.call('HMGET', LETTER .. number, 'queue', 'message', 'size_bytes', 'job_id')
local queue, message, id = fields[1], fields[2], fields[4]
if not queue then return { 'unknown', '', '' } end
if message == '' or #message < tonumber(fields[3]) then return { 'cut', '', '' } end
look_at(id)
local is_job = id ~= '' and redis.call('HGET', record, 'letter') == number
if is_job and redis.call('HGET', record, 'state') ~= 'failed' then return { 'answered', '', '' } end
if queue_is_here then redis.call('LPUSH', queue, message) end -- first: what cannot be pushed stays a dead letter
if is_job then
  redis.call('HSET', record, 'state', 'queued', 'attempts', 0, 'message', message)
  redis.call('HDEL', record, 'letter', 'error', 'finished_at', 'started_at', 'worker', 'expires_at', 'cancel_requested')
  redis.call('PERSIST', record)
  redis.call('DEL', result)
  redis.call('ZADD', QUEUED .. queue, now_ms, id)
end
redis.call('LREM', DEAD, 1, number)
redis.call('DEL', LETTER .. number)
return { 'replayed', queue, message }
