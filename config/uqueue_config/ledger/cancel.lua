-- Cancel a queued job now and a running one at its next checkpoint. Answers the state found, or false if unknown.
local state = current_state()
if state == 'queued' then revoke('cancelled') end
if state == 'running' then redis.call('HSET', record, 'cancel_requested', 1) end
return state
