-- Note how far what a retry gave is folded back.
-- ARGV: 1 the job's ref, 2 token of its closing, 3 the retry's shard to go on with
-- Returns 1, or 0 where another closes it.
if not made_progress('close/' .. ARGV[1], ARGV[2]) then return 0 end
call('HSET', key('job', ARGV[1]), 'folded', ARGV[3])
return 1
