# The first write of an entity needs a prepare; from then on the node that wrote goes straight to
# the accept requests, which leave before its own vote is on disk.

nodes 1 1 1
ask A at 0: APPEND k 1
pass 10 ms
expect A: 1

# One round trip:
ask B at 0: APPEND k 2
pass 10 ms
expect B: 2
