-- Count a run of shards whose roll-up is stored, in a job that was entered anew; they are not claimed again.
-- ARGV: 1 the job's ref, 2 token, 3 first shard, 4 shards, 5 succeeded, 6 failed, 7 skipped
-- Returns 1, or 0 where the job is not at that shard.
local job = key('job', ARGV[1])
if not holds('plan/' .. ARGV[1], ARGV[2]) or call('HGET', job, 'admitted') ~= ARGV[3] then return 0 end
call('HINCRBY', job, 'admitted', ARGV[4])
call('HINCRBY', job, 'shards_done', ARGV[4])
for index, field in ipairs({'succeeded', 'failed', 'skipped'}) do call('HINCRBY', job, field, ARGV[index + 4]) end
return 1
