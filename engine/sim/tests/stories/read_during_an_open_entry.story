# A read finds the next entry started, and finishes it before it answers.

nodes 1 1 1
ask A at 0: APPEND k 1
pass 10 ms
hold * -> 0: record
ask B at 0: APPEND k 2
pass 5 ms
expect B: nothing
ask R at 1: GET k
pass 50 ms
expect R: 12
release
pass 50 ms
expect B: 2
