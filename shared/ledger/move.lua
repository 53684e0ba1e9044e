-- Move a job to another state, if its present state leads there.
-- KEYS: 1 the job, 2 the turns of its model, 3 its ready shards, 4 the turn counter
-- ARGV: 1 job id, 2 the state to move to ('resume': the one it was paused in), 3 the error as JSON or '',
--       then the states that lead there
-- Returns {1, state after} or {0, state now}; {0} where there is no such job.
local state, before, priority = unpack(redis.call('HMGET', KEYS[1], 'state', 'paused_from', 'priority'))
if not state then return {0} end
local allowed = false
for index = 4, #ARGV do allowed = allowed or ARGV[index] == state end
if not allowed then return {0, state} end
local after = ARGV[2]
if after == 'resume' then
  after = before
elseif after == 'paused' then
  redis.call('HSET', KEYS[1], 'paused_from', state)
end
redis.call('HSET', KEYS[1], 'state', after)
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[3]) end
if after ~= 'planning' and after ~= 'running' then
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif redis.call('ZCARD', KEYS[3]) > 0 then
  redis.call('ZADD', KEYS[2], 'NX', -priority * 1e12 + redis.call('INCR', KEYS[4]), ARGV[1])
end
return {1, after}
