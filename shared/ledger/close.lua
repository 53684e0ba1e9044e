-- A job's report is stored: it is over, and its working keys go.
-- ARGV: 1 job id, 2 seconds to keep it, then the final counts: 3 items, 4 succeeded, 5 failed, 6 skipped
-- Returns the job's state.
local id = ARGV[1]
local job = key('job', id)
if call('HGET', job, 'state') == 'finalizing' then call('HSET', job, 'state', 'completed') end
call('HSET', job, 'total', ARGV[3], 'planned', ARGV[3], 'succeeded', ARGV[4], 'failed', ARGV[5], 'skipped', ARGV[6])
call('HSETNX', job, 'finished_at', now())
for _, shard in ipairs(call('HKEYS', job .. ':shards')) do call('ZREM', key('leases'), id .. '/' .. shard) end
call('DEL', job .. ':shards', job .. ':ready', job .. ':journal')
call('SREM', key('open'), id)
leave_turns(id)
call('EXPIRE', job, ARGV[2])
call('ZADD', key('ended'), now() + ARGV[2], id)
return call('HGET', job, 'state')
