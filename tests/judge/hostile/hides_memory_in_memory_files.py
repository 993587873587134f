# due: Accepted
import os, signal, sys, time
signal.alarm(60)
try: fds = [os.memfd_create(str(i)) for i in range(200)]
except OSError: fds = []
for fd in fds: os.write(fd, b'x' * (1 << 20))
if not fds: print(sum(map(int, sys.stdin.readline().split())))
