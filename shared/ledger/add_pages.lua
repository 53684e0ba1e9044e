-- Count plan pages that are stored, move the planner's cursor behind them, and let shards of them be claimed.
-- ARGV: 1 the job's ref, 2 token, 3 pages before, 4 pages, 5 shards, 6 items, 7 cursor, 8 '1' where they are the last,
--       9 what the listing has left out so far
-- Returns {'added', shards made claimable}; {'stale'} where another planner went on; else {the job's state}.
local ref, work = ARGV[1], 'plan/' .. ARGV[1]
local job = key('job', ref)
local state, pages = unpack(call('HMGET', job, 'state', 'pages'))
if not holds(work, ARGV[2]) or pages ~= ARGV[3] then return {'stale'} end
if state ~= 'planning' then return {state} end
made_progress(work, ARGV[2])
call('HINCRBY', job, 'pages', ARGV[4])
call('HINCRBY', job, 'shards', ARGV[5])
local planned = call('HINCRBY', job, 'planned', ARGV[6])
call('HSET', job, 'cursor', ARGV[7], 'left_out', ARGV[9])
if ARGV[8] == '1' then call('HSET', job, 'total', planned) end
local count = admit(ref)
conclude(ref)
return {'added', count}
