# A node accepts a value, forgets the entity for want of memory, and gets another request for the
# same entry late. What is on disk has the last word.

nodes 1 1 1
memory 2
ask A at 0: APPEND k 1
pass 300 ms
hold 0 -> *: *
ask L at 0: APPEND k late
pass 10 ms
ask B at 1: APPEND k 2
pass 300 ms
expect B: 2

# Others push k out of the memory of node 2.
ask W at 2: SET x 1
pass 300 ms
ask X at 2: SET y 1
pass 300 ms
ask Y at 2: SET z 1
pass 300 ms
ask Z at 2: SET zz 1
pass 300 ms

# Now the late request arrives.
release
pass 3 s
expect L: 6
ask R at 2: GET k
pass 50 ms
expect R: 12late
