-- Shared by every ledger script (prepended when it is loaded): the two keys, the clock, and the one way a job ends.
local record, result = KEYS[1], KEYS[2]
local job_id, result_ttl, record_ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Every job that has not ended, by the time its whereabouts were last known.
local OPEN_JOBS = 'uqueue:open'

local function is_terminal(state)
  return state and state ~= 'queued' and state ~= 'running'
end

-- Write the terminal state and the Celery result together. The caller has checked that the job has not ended.
local function finish(state, celery_meta, error_json)
  redis.call('HSET', record, 'state', state, 'finished_at', now_ms)
  if error_json ~= '' then redis.call('HSET', record, 'error', error_json) end
  redis.call('HDEL', record, 'message')
  redis.call('ZREM', OPEN_JOBS, job_id)
  redis.call('EXPIRE', record, record_ttl)
  redis.call('SET', result, celery_meta, 'EX', result_ttl)
  redis.call('PUBLISH', result, celery_meta)
end

-- End a job that nobody computes any more: Celery clients see it as revoked, with the reason.
local function revoke(state)
  finish(state, cjson.encode({
    status = 'REVOKED', task_id = job_id, traceback = cjson.null, children = cjson.null, date_done = cjson.null,
    result = { exc_type = 'TaskRevokedError', exc_module = 'celery.exceptions', exc_message = { state } },
  }), '')
end

-- The job's state; one whose time ran out in the queue ends here, whoever looks first.
local function current_state()
  local state = redis.call('HGET', record, 'state')
  if state == 'queued' then
    local expires_at = tonumber(redis.call('HGET', record, 'expires_at') or '')
    if expires_at and expires_at <= now_ms then
      revoke('expired')
      return 'expired'
    end
  end
  return state
end

-- Whether the process that began this job still renews its acknowledgement.
local function worker_is_alive()
  local fields = redis.call('HMGET', record, 'model', 'worker')
  if not fields[1] or not fields[2] then return false end
  return redis.call('EXISTS', 'uqueue:serving:' .. fields[1] .. ':' .. fields[2]) == 1
end
