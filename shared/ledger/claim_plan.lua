-- Give one planner the right to go on planning a job.
-- KEYS: 1 the job
-- ARGV: 1 lease seconds
-- Returns {plan attempt, shards planned, items planned, cursor}, or nil where there is nothing to plan now.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local state, planning_until = unpack(redis.call('HMGET', KEYS[1], 'state', 'plan_until'))
if state ~= 'queued' and state ~= 'planning' then return nil end
if tonumber(planning_until) > now then return nil end
redis.call('HSET', KEYS[1], 'state', 'planning', 'plan_until', now + ARGV[1])
local attempt = redis.call('HINCRBY', KEYS[1], 'plan_attempt', 1)
local shards, planned, cursor = unpack(redis.call('HMGET', KEYS[1], 'shards', 'planned', 'cursor'))
return {attempt, tonumber(shards), tonumber(planned), cursor}
