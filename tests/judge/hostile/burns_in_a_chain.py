# due: TimeLimitExceeded WrongAnswer
import os, signal, sys, time
signal.alarm(60)
for _ in range(60):
    t = time.process_time()
    while time.process_time() < t + 0.02: pass
    if os.fork(): os._exit(0)
    os.setsid()
print(sum(map(int, sys.stdin.readline().split())))
