-- A job's report is stored: it is over, and its working keys go.
-- ARGV: 1 the job's ref, 2 seconds to keep it, 3 shards a roll-up, 4 the run that is over: its retry, 0 for the first,
--       5 final state, 6 the report as JSON
-- Returns the job's state, or nil where there is no such job. One that is not over was entered anew since, or is another
-- run: it stays.
local ref = ARGV[1]
local job = key('job', ref)
local state, admitted, retry = unpack(call('HMGET', job, 'state', 'admitted', 'retry'))
local over = {finalizing = true, completed = true, failed = true, cancelled = true}
if not over[state] or (retry or '0') ~= ARGV[4] then return state end
call('HSET', job, 'state', ARGV[5], 'report', ARGV[6])
for _, shard in ipairs(call('HKEYS', job .. ':shards')) do call('ZREM', key('leases'), ref .. '/' .. shard) end
call('DEL', job .. ':shards', job .. ':ready', job .. ':journal')
-- What was counted behind the roll-up that tells of it.
for first = 0, admitted - 1, ARGV[3] do call('DEL', job .. ':done:' .. first / ARGV[3]) end
call('SREM', key('open'), ref)
leave_turns(ref, call('HGET', job, 'model'))
call('EXPIRE', job, ARGV[2])
call('ZADD', key('ended'), now() + ARGV[2], ref)
return ARGV[5]
