-- Take up to `most` messages off a queue and start an attempt of each job, in one step: nothing is ever in between.
-- Answers {wanted versions, [id, attempt, message, ...], ids started too often}. What names no job becomes a dead letter.
-- A claim whose reply was lost is asked for `again` under its token, and answers the same jobs. Tokens are numbers that
-- grow: a claim that comes late, over a connection that its process has given up, takes nothing.
-- KEYS: the queue, then the pointers to the wanted versions of the tracks that the worker serves.
local queue = KEYS[1]
local model, worker, token, again = ARGV[3], ARGV[4], ARGV[5], ARGV[6] == '1'
local most, most_bytes, most_message_bytes = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local max_attempts, may_retry = tonumber(ARGV[10]), ARGV[11] == '1'
local last_claim = 'uqueue:claim:' .. worker

local claimed, started, abandoned = {}, {}, {}
local bytes, pops, jobs = 0, 0, 0

local function hand_out(id, attempt, message)
  claimed[#claimed + 1] = id
  claimed[#claimed + 1] = attempt
  claimed[#claimed + 1] = message
  bytes = bytes + #message
  jobs = jobs + 1
end

-- Decide what becomes of one message. Answers true if it has to wait: a job that was started before may be what ended
-- its process, so it is handed out alone.
local function take(id, message)
  look_at(id)
  local fields = redis.call('HMGET', record, 'state', 'attempts', 'message', 'expires_at', 'cancel_requested', 'worker', 'model')
  local attempts = tonumber(fields[2] or 0)
  local state = expire_if_overdue(fields[1], fields[4], queue)
  if is_terminal(state) then return false end
  if fields[5] then
    revoke('cancelled', queue)
    return false
  end
  if not state and #message > most_message_bytes then
    bury(queue, string.sub(message, 1, KEPT_BYTES), #message, 'the message is longer than a job may be', id)
    return false
  end
  if not fields[3] then -- sent by a program that does not know the ledger
    redis.call('HSET', record, 'model', model, 'queue', queue, 'message', message)
    if not state then redis.call('HSET', record, 'created_at', now_ms) end
  end
  if state == 'running' and (fields[6] == worker or is_alive(fields[7], fields[6])) then return false end
  if attempts > 0 and (jobs > 0 or not may_retry) then return true end
  if attempts >= max_attempts then
    abandoned[#abandoned + 1] = id
    return false
  end
  redis.call('HSET', record, 'state', 'running', 'started_at', now_ms, 'worker', worker, 'attempts', attempts + 1)
  started[#started + 1] = now_ms
  started[#started + 1] = id
  -- The record's own message: one that merely carries the id of somebody's job changes nothing.
  hand_out(id, attempts + 1, fields[3] or message)
  if attempts > 0 then most = 1 end
  return false
end

local function take_from_queue()
  while jobs < most and bytes < most_bytes and pops < 2 * most + 10 do
    local message = redis.call('RPOP', queue)
    if not message then break end
    pops = pops + 1
    local id = string.match(message, '"id": ?"([%w%-_.:]+)"')
    if not id or #id > 128 then
      bury(queue, string.sub(message, 1, KEPT_BYTES), #message, 'the message names no job id', '')
    elseif take(id, message) then
      redis.call('RPUSH', queue, message)
      break
    end
  end
  local ids = {}
  for at = 1, #claimed, 3 do ids[#ids + 1] = claimed[at] end
  if jobs > 0 then
    redis.call('ZADD', RUNNING, unpack(started))
    redis.call('ZREM', QUEUED .. queue, unpack(ids))
  end
  if jobs > 0 or again then redis.call('SET', last_claim, token .. ' ' .. table.concat(ids, ' '), 'EX', 3600) end
end

-- Hand out what the last claim took and this process still holds.
local function repeat_last(ids)
  for id in string.gmatch(ids, '%S+') do
    local fields = redis.call('HMGET', 'uqueue:job:' .. id, 'state', 'attempts', 'message', 'worker')
    if fields[1] == 'running' and fields[4] == worker then hand_out(id, tonumber(fields[2]), fields[3]) end
  end
end

local last_token, last_ids = string.match(redis.call('GET', last_claim) or '', '^(%d+) (.*)$')
if not last_token or tonumber(token) > tonumber(last_token) then
  take_from_queue()
elseif again and token == last_token then
  repeat_last(last_ids)
end
return { wanted_versions(2), claimed, abandoned }
