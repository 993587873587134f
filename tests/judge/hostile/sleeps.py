# due: TimeLimitExceeded
import os, signal, sys, time
signal.alarm(60)
time.sleep(50)
print(sum(map(int, sys.stdin.readline().split())))
