-- Accept jobs of one model: write each record and push its message, both or neither. Jobs come in fives: id, digest,
-- message, columns, targets. Answers a verdict and a detail for each: opened, same, conflict, columns and targets (with
-- the number that the served model expects), or full (with the seconds after which to try again).
local queue, wanted = KEYS[1], KEYS[2]
local model, expires_ms, queue_limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local queue_is_here, is_batch = ARGV[6] == '1', ARGV[7] == '1'
local FIRST_JOB = 8

local shape = redis.call('HMGET', wanted, 'n_features', 'n_targets')
local answers, waiting, messages = {}, {}, {}

-- By Little's law the oldest message has waited for as long as the whole queue takes; a tenth of it makes room.
-- Counted and not read: who may only submit has no right to the ids of others.
local function seconds_until_room()
  for _, seconds in ipairs({ 1, 2, 5, 10, 20, 30 }) do
    if redis.call('ZCOUNT', QUEUED .. queue, '-inf', now_ms - 10000 * seconds) == 0 then return seconds end
  end
  return 60
end

local function verdict_of(at)
  local digest, columns, targets = ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
  local known = redis.call('HMGET', record, 'state', 'digest')
  if known[1] then return known[2] == digest and 'same' or 'conflict', '' end
  if columns ~= '' and shape[1] and shape[1] ~= columns then return 'columns', shape[1] end
  if targets ~= '' and shape[2] and shape[2] ~= targets then return 'targets', shape[2] end
  return 'opened', ''
end

-- A batch is accepted as a whole or not at all: of a full queue nobody has to work out what went in. Jobs of several
-- callers that only travel together are accepted one by one.
local room = queue_limit - (queue_is_here and redis.call('LLEN', queue) or redis.call('ZCARD', QUEUED .. queue))
local is_full = is_batch and (#ARGV - FIRST_JOB + 1) / 5 > room

for at = FIRST_JOB, #ARGV, 5 do
  look_at(ARGV[at])
  local verdict, detail = verdict_of(at)
  if verdict == 'opened' and (is_full or room < 1) then verdict, detail = 'full', tostring(seconds_until_room()) end
  if verdict == 'opened' then
    room = room - 1
    redis.call('HSET', record, 'state', 'queued', 'attempts', 0, 'digest', ARGV[at + 1], 'model', model,
      'created_at', now_ms, 'queue', queue, 'message', ARGV[at + 2])
    if expires_ms ~= '' then redis.call('HSET', record, 'expires_at', now_ms + tonumber(expires_ms)) end
    waiting[#waiting + 1] = now_ms
    waiting[#waiting + 1] = job_id
    messages[#messages + 1] = ARGV[at + 2]
  end
  answers[#answers + 1] = verdict
  answers[#answers + 1] = detail
end

if #messages > 0 then
  redis.call('ZADD', QUEUED .. queue, unpack(waiting))
  if queue_is_here then redis.call('LPUSH', queue, unpack(messages)) end
end
return answers
