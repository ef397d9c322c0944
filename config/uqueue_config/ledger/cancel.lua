-- Cancel a queued job now and a running one at its next checkpoint. Answers the state found, or false if unknown.
look_at(ARGV[3])
local state = current_state()
if state == 'queued' then revoke('cancelled', redis.call('HGET', record, 'queue')) end
if state == 'running' then redis.call('HSET', record, 'cancel_requested', 1) end
return state
