# A node writes its vote and dies before it is sent. After the restart it still stands by it.

nodes 1 1 1
hold 1 -> 0: record
cut 0 -> 2
ask A at 0: APPEND k a
pass 10 ms
expect A: nothing
crash 1
drop
start 1
pass 1500 ms
heal
pass 1500 ms
expect A: 1
ask R at 1: GET k
pass 50 ms
expect R: a
