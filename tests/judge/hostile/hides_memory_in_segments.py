# due: Accepted
import os, signal, sys, time
signal.alarm(60)
import ctypes
c = ctypes.CDLL(None)
if all(c.shmget(0, 1 << 20, 0o1600) < 0 for _ in range(3)): print(sum(map(int, sys.stdin.readline().split())))
