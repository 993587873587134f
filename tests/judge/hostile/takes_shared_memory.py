# due: MemoryLimitExceeded
import os, signal, sys, time
signal.alarm(60)
import mmap
m = [mmap.mmap(-1, 60 << 20) for _ in range(5)]
for x in m: x.write(b'x' * (60 << 20))
time.sleep(50)
