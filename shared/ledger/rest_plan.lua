-- Give the planner's right back, so that another may go on at once.
-- KEYS: 1 the job
-- ARGV: 1 plan attempt
if redis.call('HGET', KEYS[1], 'plan_attempt') == ARGV[1] then redis.call('HSET', KEYS[1], 'plan_until', 0) end
