-- A job's report is stored: it is over, and its working keys go.
-- ARGV: 1 the job's ref, 2 seconds to keep it, then the final counts: 3 items, 4 succeeded, 5 failed, 6 skipped,
--       7 shards a roll-up
-- Returns the job's state, or nil where there is no such job. One that is not over was entered anew since: it stays.
local ref = ARGV[1]
local job = key('job', ref)
local state, admitted = unpack(call('HMGET', job, 'state', 'admitted'))
local over = {finalizing = 'completed', completed = 'completed', failed = 'failed', cancelled = 'cancelled'}
if not over[state] then return state end
call('HSET', job, 'state', over[state])
call('HSET', job, 'total', ARGV[3], 'planned', ARGV[3], 'succeeded', ARGV[4], 'failed', ARGV[5], 'skipped', ARGV[6])
call('HSETNX', job, 'finished_at', now())
for _, shard in ipairs(call('HKEYS', job .. ':shards')) do call('ZREM', key('leases'), ref .. '/' .. shard) end
call('DEL', job .. ':shards', job .. ':ready', job .. ':journal')
-- What was counted behind the roll-up that tells of it.
for first = 0, admitted - 1, ARGV[7] do call('DEL', job .. ':done:' .. first / ARGV[7]) end
call('SREM', key('open'), ref)
leave_turns(ref, call('HGET', job, 'model'))
call('EXPIRE', job, ARGV[2])
call('ZADD', key('ended'), now() + ARGV[2], ref)
return over[state]
