# Two nodes want the same entry. The higher ballot wins; the other learns the outcome, and its
# command goes into the next entry.

nodes 1 1 1
ask A at 0: APPEND k a
ask B at 1: APPEND k b
pass 50 ms
expect A: 2
expect B: 1
