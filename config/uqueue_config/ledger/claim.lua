-- Take up to `most` messages off a queue and start an attempt of each job, in one step: nothing is ever in between.
-- Answers {wanted version, [id, attempt, message, ...], ids started too often}. What names no job goes to the dead list.
local queue, wanted, dead = KEYS[3], KEYS[4], KEYS[5]
local worker, model, most, most_bytes, max_attempts = ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local claimed, abandoned, bytes = {}, {}, 0

-- Whether this delivery may compute; a surplus one is dropped here.
local function may_start(message)
  local state = current_state()
  if is_terminal(state) then return false end
  if not state then -- sent by a program that does not know the ledger
    redis.call('HSET', record, 'model', model, 'created_at', now_ms, 'published_at', now_ms, 'queue', queue, 'message', message)
  elseif redis.call('HGET', record, 'cancel_requested') then
    revoke('cancelled')
    return false
  elseif state == 'running' and redis.call('HGET', record, 'worker') ~= worker and worker_is_alive() then
    return false
  end
  return true
end

while #claimed < 3 * most and bytes < most_bytes do
  local message = redis.call('RPOP', queue)
  if not message then break end
  bytes = bytes + #message
  local id = string.match(message, '"id": ?"([%w%-_.:]+)"')
  if not id or #id > 128 then
    redis.call('LPUSH', dead, cjson.encode({ reason = 'the message names no job id', message = string.sub(message, 1, 4096) }))
  else
    job_id, record, result = id, 'uqueue:job:' .. id, 'celery-task-meta-' .. id
    if may_start(message) then
      local attempt = redis.call('HINCRBY', record, 'attempts', 1)
      redis.call('ZADD', OPEN_JOBS, now_ms, id)
      redis.call('HSET', record, 'state', 'running', 'started_at', now_ms, 'worker', worker)
      if attempt > max_attempts then
        table.insert(abandoned, id)
      else
        table.insert(claimed, id)
        table.insert(claimed, attempt)
        -- The record's own message: one that merely carries the id of somebody's job changes nothing.
        table.insert(claimed, redis.call('HGET', record, 'message') or message)
      end
    end
  end
end
return { redis.call('HGET', wanted, 'version') or '', claimed, abandoned }
