# due: TimeLimitExceeded
import os, signal, sys, time
signal.alarm(60)
os.kill(os.getpid(), signal.SIGSTOP)
print(sum(map(int, sys.stdin.readline().split())))
