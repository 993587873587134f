# due: TimeLimitExceeded
import os, signal, sys, time
signal.alarm(60)
for _ in range(60):
    if os.fork() == 0:
        if os.fork() == 0:
            t = time.process_time()
            while time.process_time() < t + 0.02: pass
        os._exit(0)
    os.wait()
    time.sleep(0.02)
print(sum(map(int, sys.stdin.readline().split())))
