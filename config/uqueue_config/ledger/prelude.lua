-- Shared by every ledger script (prepended when it is loaded): the clock, where jobs are kept, and the ways they end.
local result_ttl, record_ttl = ARGV[1], ARGV[2]

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Jobs that have started and not ended, by their start; jobs that wait in a queue, by the time of their publication.
local RUNNING = 'uqueue:running'
local QUEUED = 'uqueue:queued:'
-- Dead letters: a list of numbers, newest first, and a hash for each.
local DEAD, LETTER, MOST_LETTERS = 'dead', 'uqueue:dead:', 100000
-- How much is kept of a message that is not a job's own.
local KEPT_BYTES = 65536

local job_id, record, result

local function look_at(id)
  job_id, record, result = id, 'uqueue:job:' .. id, 'celery-task-meta-' .. id
end

local function is_terminal(state)
  return state and state ~= 'queued' and state ~= 'running'
end

-- Keep a message that no worker could answer, with the reason. Answers the letter's number.
local function bury(queue, message, size, reason, id)
  local number = redis.call('INCR', LETTER .. 'count')
  redis.call('HSET', LETTER .. number, 'queue', queue, 'reason', reason, 'job_id', id, 'buried_at', now_ms,
    'size_bytes', size, 'message', message)
  if redis.call('LPUSH', DEAD, number) > MOST_LETTERS then redis.call('DEL', LETTER .. redis.call('RPOP', DEAD)) end
  return number
end

-- Write the terminal state and the Celery result together. The caller has checked that the job has not ended.
local function finish(state, celery_meta, error_json)
  if error_json == '' then
    redis.call('HSET', record, 'state', state, 'finished_at', now_ms, 'message', '')
  else
    redis.call('HSET', record, 'state', state, 'finished_at', now_ms, 'message', '', 'error', error_json)
  end
  redis.call('EXPIRE', record, record_ttl)
  redis.call('SET', result, celery_meta, 'EX', result_ttl)
  redis.call('PUBLISH', result, celery_meta)
end

-- No longer in the sets of open jobs. What started is in the one, what waits in the other.
local function forget(queue)
  if redis.call('ZREM', RUNNING, job_id) == 0 and queue then redis.call('ZREM', QUEUED .. queue, job_id) end
end

-- End a job that nobody computes any more: Celery clients see it as revoked, with the reason.
local function revoke(state, queue)
  finish(state, cjson.encode({
    status = 'REVOKED', task_id = job_id, traceback = cjson.null, children = cjson.null, date_done = cjson.null,
    result = { exc_type = 'TaskRevokedError', exc_module = 'celery.exceptions', exc_message = { state } },
  }), '')
  forget(queue)
end

-- The state in which the job is from now on: a queued one whose time ran out ends here, whoever looks first.
local function expire_if_overdue(state, expires_at, queue)
  if state == 'queued' and expires_at and tonumber(expires_at) <= now_ms then
    revoke('expired', queue)
    return 'expired'
  end
  return state
end

local function current_state()
  local fields = redis.call('HMGET', record, 'state', 'expires_at', 'queue')
  return expire_if_overdue(fields[1], fields[2], fields[3])
end

-- Whether the process that began a job still renews its acknowledgement; a lane lives as long as its process.
local function is_alive(model, worker)
  if not model or not worker then return false end
  local process = string.gsub(worker, '%.lane:(%d+)$', ':%1')
  return redis.call('EXISTS', 'uqueue:serving:' .. model .. ':' .. process) == 1
end

-- The versions that the keys from this one on point at, each with the number of the look that pointed there.
local function wanted_versions(first)
  local versions = {}
  for at = first, #KEYS do
    local wish = redis.call('HMGET', KEYS[at], 'version', 'fence')
    versions[#versions + 1] = wish[1] or ''
    versions[#versions + 1] = wish[2] or '0'
  end
  return versions
end
