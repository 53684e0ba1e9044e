-- The last shard is planned: the job's total is known.
-- KEYS: 1 the job
-- ARGV: 1 plan attempt
-- Returns the job's state after it, or 'stale' where another planner went on.
local state, attempt, planned, shards, done, failed, rate = unpack(
  redis.call('HMGET', KEYS[1], 'state', 'plan_attempt', 'planned', 'shards', 'shards_done', 'failed', 'max_failure_rate'))
if attempt ~= ARGV[1] then return 'stale' end
if state ~= 'planning' then return state end
if tonumber(failed) > rate * planned then
  state = 'failed'
else
  state = shards == done and 'finalizing' or 'running'
end
redis.call('HSET', KEYS[1], 'total', planned, 'state', state, 'plan_until', 0)
return state
