# due: RuntimeError MemoryLimitExceeded
import os, signal, sys, time
signal.alarm(60)
sys.setrecursionlimit(10**9)
def f(): f()
f()
