-- Find open jobs that no queue holds and no living process computes, and publish them again.
-- Answers {ids started too often, [queue, message, ...] to push elsewhere}. KEYS and the job arguments are set per job.
local grace_ms, most, max_attempts, queue_is_here = ARGV[4], ARGV[5], tonumber(ARGV[6]), ARGV[7] == '1'
local abandoned, elsewhere = {}, {}

local function look_at(id)
  job_id, record, result = id, 'uqueue:job:' .. id, 'celery-task-meta-' .. id
  return current_state()
end

-- When the next message of a queue was published; false if the queue is empty, nil if that cannot be told.
local function oldest_in(queue)
  local message = redis.call('LINDEX', queue, -1)
  if not message then return false end
  local id = string.match(message, '"id": ?"([^"\\]+)"')
  return id and tonumber(redis.call('HGET', 'uqueue:job:' .. id, 'published_at') or '') or nil
end

-- A queue is first in, first out: what was published before its oldest message has left it.
local function has_left(queue, published_at)
  local oldest = oldest_in(queue)
  if oldest == nil then return false end
  return oldest == false or published_at < oldest
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', OPEN_JOBS, '-inf', now_ms - grace_ms, 'LIMIT', 0, most)) do
  local state = look_at(id)
  local fields = redis.call('HMGET', record, 'queue', 'message', 'published_at', 'attempts')
  local queue, message, published_at, attempts = fields[1], fields[2], tonumber(fields[3] or ''), tonumber(fields[4] or 0)
  if not state or is_terminal(state) then
    redis.call('ZREM', OPEN_JOBS, id)
  else
    redis.call('ZADD', OPEN_JOBS, now_ms, id)
    local lost = false
    if message and state == 'queued' then lost = not queue_is_here or has_left(queue, published_at) end
    if message and state == 'running' then lost = not worker_is_alive() end
    if lost and attempts >= max_attempts then
      table.insert(abandoned, id)
    elseif lost then
      redis.call('HSET', record, 'state', 'queued', 'published_at', now_ms)
      if queue_is_here then
        redis.call('LPUSH', queue, message)
      else
        table.insert(elsewhere, queue)
        table.insert(elsewhere, message)
      end
    end
  end
end
return { abandoned, elsewhere }
