-- Start an attempt. Answers {state, attempt, wanted version}; only state running may compute. State elsewhere comes with
-- the process that is computing instead of the version.
local wanted = KEYS[3]
local model, worker, max_attempts = ARGV[4], ARGV[5], tonumber(ARGV[6])

local state = current_state()
if is_terminal(state) then return { state, 0, '' } end
if redis.call('HGET', record, 'cancel_requested') then -- asked for while an attempt that died was running
  revoke('cancelled')
  return { 'cancelled', 0, '' }
end
if not state then -- sent by a program that does not know the ledger
  redis.call('HSET', record, 'model', model, 'created_at', now_ms)
end
if state == 'running' and redis.call('HEXISTS', record, 'message') == 1 then
  -- A second delivery. The sweeper publishes the job again if that process dies.
  local holder = redis.call('HGET', record, 'worker')
  if holder ~= worker and worker_is_alive() then return { 'elsewhere', 0, holder } end
end
local attempt = redis.call('HINCRBY', record, 'attempts', 1)
if attempt > max_attempts then return { 'abandoned', attempt, '' } end
redis.call('HSET', record, 'state', 'running', 'started_at', now_ms, 'worker', worker)
redis.call('ZADD', OPEN_JOBS, now_ms, job_id)
return { 'running', attempt, redis.call('HGET', wanted, 'version') or '' }
