-- Move a job to another state, if its present state leads there.
-- ARGV: 1 the job's ref, 2 the state to move to ('resume': the one it was paused in), 3 the error as JSON or '',
--       then the states that lead there
-- Returns {1, state after} or {0, state now}; {0} where there is no such job.
local ref, after = ARGV[1], ARGV[2]
local job = key('job', ref)
local state, before = unpack(call('HMGET', job, 'state', 'paused_from'))
if not state then return {0} end
local allowed = false
for index = 4, #ARGV do allowed = allowed or ARGV[index] == state end
if not allowed then return {0, state} end
if ARGV[3] ~= '' then call('HSET', job, 'error', ARGV[3]) end
if after == 'resume' then
  call('HSET', job, 'state', before)
  if before ~= 'running' then wake('plan/' .. ref) end
  if call('ZCARD', job .. ':ready') > 0 then take_turn(ref) end
  admit(ref)
  -- The last shards may have ended while it was paused.
  return {1, conclude(ref)}
elseif after == 'paused' then
  call('HSET', job, 'paused_from', state, 'state', after)
  leave_turns(ref, call('HGET', job, 'model'))
else
  wind_up(ref, after)
end
return {1, after}
