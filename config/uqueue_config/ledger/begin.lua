-- Start an attempt. Answers {state, attempt, wanted versions, holder}; only state running may compute. State elsewhere
-- comes with the process that is computing; forged means that the job was opened with another request.
-- KEYS are the pointers to the wanted versions of the tracks that the worker serves.
look_at(ARGV[3])
local model, worker, digest, max_attempts = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])

local state = current_state()
if is_terminal(state) then return { state, 0, {}, '' } end
local fields = redis.call('HMGET', record, 'digest', 'message', 'worker', 'model', 'queue', 'cancel_requested', 'attempts')
local opened_digest, message, holder, queue = fields[1], fields[2], fields[3], fields[5]
if opened_digest and digest ~= '' and opened_digest ~= digest then return { 'forged', 0, {}, '' } end
if fields[6] then -- asked for while an attempt that died was running
  revoke('cancelled', queue)
  return { 'cancelled', 0, {}, '' }
end
if not state then -- sent by a program that does not know the ledger
  redis.call('HSET', record, 'model', model, 'created_at', now_ms)
end
-- A second delivery. The sweeper publishes the job again if that process dies.
if state == 'running' and message and holder ~= worker and is_alive(fields[4], holder) then
  return { 'elsewhere', 0, {}, holder }
end
local attempt = tonumber(fields[7] or 0)
-- Of a process that asks again only the reply was lost.
if state ~= 'running' or holder ~= worker then attempt = attempt + 1 end
if attempt > max_attempts then return { 'abandoned', attempt, {}, '' } end
redis.call('HSET', record, 'state', 'running', 'started_at', now_ms, 'worker', worker, 'attempts', attempt)
redis.call('ZADD', RUNNING, now_ms, job_id)
if queue then redis.call('ZREM', QUEUED .. queue, job_id) end
return { 'running', attempt, wanted_versions(1), '' }
