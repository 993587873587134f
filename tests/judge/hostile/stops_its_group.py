# due: TimeLimitExceeded
import os, signal, sys, time
signal.alarm(60)
os.killpg(0, signal.SIGSTOP)
print(sum(map(int, sys.stdin.readline().split())))
