-- Keep the lease of control work.
-- ARGV: 1 work, 2 token, 3 lease seconds, 4 '1' where progress was made since
-- Returns 1, or 0 where another has it.
local row = holds(ARGV[1], ARGV[2])
if not row then return 0 end
if ARGV[4] == '1' then row.failures = 0 end
put_row(ARGV[1], row, now() + ARGV[3])
return 1
