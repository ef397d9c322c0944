-- Take webhooks whose job has ended or whose next try is due: at most `most`, each for the time of the lease. The ids at
-- the end are jobs whose end was just announced. KEYS: the sorted set of webhooks with something to do, by when.
-- Answers {[id, url, prefix, tries, created at, state of the job, its end, its error], ids of jobs still open}.
local most, lease_ms, most_looks = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local orphan_ms, shortest_ms, longest_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local FIRST_ANNOUNCED = 9
local due = KEYS[1]
local taken, open, count = {}, {}, 0

local function look_again(after_ms)
  redis.call('ZADD', due, now_ms + after_ms, job_id)
end

-- Whether the job has ended; what its end was is kept with the webhook, since records go. A job that is looked at in
-- vain is looked at ever more rarely, for its end is announced. What was never opened was refused.
local function has_ended(webhook, created_at)
  local state, age = current_state(), now_ms - created_at
  if not state and age > orphan_ms then
    redis.call('ZREM', due, job_id)
    redis.call('DEL', webhook)
    return false
  end
  if not is_terminal(state) then
    look_again(math.min(math.max(age / 2, shortest_ms), longest_ms))
    if state then open[#open + 1] = job_id end
    return false
  end
  local ended = redis.call('HMGET', record, 'finished_at', 'error')
  redis.call('HSET', webhook, 'state', 'sending', 'job_state', state, 'finished_at', ended[1] or now_ms, 'error', ended[2] or '')
  return true
end

local function take(id, announced)
  look_at(id)
  local webhook = 'uqueue:webhook:' .. id
  local fields = redis.call('HMGET', webhook, 'state', 'created_at')
  if not fields[1] then
    redis.call('ZREM', due, id)
  elseif count >= most then
    if announced and fields[1] == 'waiting' then look_again(0) end
  elseif (fields[1] == 'waiting' and has_ended(webhook, tonumber(fields[2]))) or (fields[1] == 'sending' and not announced) then
    redis.call('HINCRBY', webhook, 'tries', 1)
    redis.call('HDEL', webhook, 'next_at')
    look_again(lease_ms)
    local one = redis.call('HMGET', webhook, 'url', 'prefix', 'tries', 'created_at', 'job_state', 'finished_at', 'error')
    table.insert(one, 1, id)
    taken[#taken + 1] = one
    count = count + 1
  end
end

for at = FIRST_ANNOUNCED, #ARGV do take(ARGV[at], true) end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now_ms, 'LIMIT', 0, most_looks)) do take(id, false) end
return { taken, open }
