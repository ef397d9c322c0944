-- Store outcomes, each only if its job has none yet. They come in sixes: id, state, Celery record, error, reason to keep
-- the message as a dead letter, and the attempt that a failure belongs to: a later attempt is not ended by it.
-- Answers how many were first.
local first, ended = 0, {}
for at = 3, #ARGV, 6 do
  look_at(ARGV[at])
  local state, reason, attempt = ARGV[at + 1], ARGV[at + 4], ARGV[at + 5]
  local fields = redis.call('HMGET', record, 'state', 'queue', 'attempts')
  local is_stale = attempt ~= '' and fields[3] and fields[3] ~= attempt
  if not is_terminal(fields[1]) and not is_stale then
    if reason ~= '' then
      local message = redis.call('HGET', record, 'message') or ''
      redis.call('HSET', record, 'letter', bury(fields[2] or '', message, #message, reason, job_id))
    end
    finish(state, ARGV[at + 2], ARGV[at + 3])
    ended[#ended + 1] = job_id
    if fields[1] == 'queued' and fields[2] then redis.call('ZREM', QUEUED .. fields[2], job_id) end
    first = first + 1
  end
end
if first > 0 then redis.call('ZREM', RUNNING, unpack(ended)) end
return first
