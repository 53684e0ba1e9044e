-- Make the next planned shard claimable and move the planner's cursor behind it.
-- KEYS: 1 the job, 2 its shards, 3 its ready shards, 4 the turns of the job's model, 5 the turn counter
-- ARGV: 1 job id, 2 plan attempt, 3 shard, 4 items, 5 cursor, 6 window, 7 lease seconds
-- Returns 'added'; 'full' where the window is full; 'stale' where another planner went on; else the job's state.
local state, attempt, shards, priority = unpack(redis.call('HMGET', KEYS[1], 'state', 'plan_attempt', 'shards', 'priority'))
if attempt ~= ARGV[2] or (state == 'planning' and shards ~= ARGV[3]) then return 'stale' end
if state ~= 'planning' then return state end
-- Who waits for room keeps the right to plan as well: nobody has to begin the listing anew.
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'plan_until', time[1] + time[2] / 1e6 + ARGV[7])
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[6]) then return 'full' end
redis.call('HSET', KEYS[2], ARGV[3], cjson.encode({items = tonumber(ARGV[4]), attempt = 0, crashes = 0}))
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[3])
redis.call('ZADD', KEYS[4], 'NX', -priority * 1e12 + redis.call('INCR', KEYS[5]), ARGV[1])
redis.call('HSET', KEYS[1], 'cursor', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'shards', 1)
redis.call('HINCRBY', KEYS[1], 'planned', ARGV[4])
return 'added'
