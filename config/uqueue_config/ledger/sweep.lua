-- Find open jobs that no queue holds and no living process computes, and publish them again.
-- Answers {ids started too often, [queue, message, ...] to push elsewhere}. KEYS are the queues.
local grace_ms, most, max_attempts, queue_is_here = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local abandoned, elsewhere = {}, {}
-- A record is written by whoever submitted the job: a queue that it names counts only if it is one of these.
local is_ours = {}
for _, queue in ipairs(KEYS) do is_ours[queue] = true end

local function publish_again(queue, message)
  redis.call('HSET', record, 'state', 'queued')
  redis.call('ZREM', RUNNING, job_id)
  redis.call('ZADD', QUEUED .. queue, now_ms, job_id)
  if queue_is_here then
    redis.call('LPUSH', queue, message)
  else
    elsewhere[#elsewhere + 1] = queue
    elsewhere[#elsewhere + 1] = message
  end
end

-- When the oldest message of a queue was published: what was published before it has left the queue, which is first in,
-- first out. Now if the queue is empty, 0 if that cannot be told.
local function oldest_in(queue)
  local message = redis.call('LINDEX', queue, -1)
  if not message then return now_ms end
  local id = string.match(message, '"id": ?"([^"\\]+)"')
  return id and tonumber(redis.call('ZSCORE', QUEUED .. queue, id) or 0) or 0
end

local function sweep_queue(queue)
  local before = now_ms - grace_ms
  if queue_is_here then before = math.min(before, oldest_in(queue) - 1) end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', QUEUED .. queue, '-inf', before, 'LIMIT', 0, most)) do
    look_at(id)
    local state, message = current_state(), redis.call('HGET', record, 'message')
    if state == 'queued' and message then
      publish_again(queue, message)
    elseif state ~= 'expired' then
      redis.call('ZREM', QUEUED .. queue, id)
    end
  end
end

local alive = {}
local function is_alive_cached(model, worker)
  local process = (model or '') .. ' ' .. (worker or '')
  if alive[process] == nil then alive[process] = is_alive(model, worker) or false end
  return alive[process]
end

local function sweep_running()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', RUNNING, '-inf', now_ms - math.min(grace_ms, 1000), 'LIMIT', 0, most)) do
    look_at(id)
    local fields = redis.call('HMGET', record, 'state', 'model', 'worker', 'message', 'queue', 'attempts')
    local message, queue = fields[4], fields[5]
    if fields[1] ~= 'running' then
      redis.call('ZREM', RUNNING, id)
    elseif message and is_ours[queue] and not is_alive_cached(fields[2], fields[3]) then
      if tonumber(fields[6]) >= max_attempts then
        abandoned[#abandoned + 1] = id
      else
        publish_again(queue, message)
      end
    else -- it is looked at again after all others
      redis.call('ZADD', RUNNING, now_ms, id)
    end
  end
end

for _, queue in ipairs(KEYS) do sweep_queue(queue) end
sweep_running()
return { abandoned, elsewhere }
