# A node gets its value accepted by one other and dies before it hears of it. Whoever reads next has
# to finish the entry, and finishes it with that value: it may have been chosen.

nodes 1 1 1
hold 0 -> 2: accept request
hold 1 -> 0: record
ask A at 0: APPEND k a
pass 10 ms
expect A: nothing
crash 0
drop
ask R at 2: GET k
pass 50 ms
expect R: a
expect A: nothing
