# due: RuntimeError TimeLimitExceeded
import os, signal, sys, time
signal.alarm(60)
n = 0
for _ in range(900):
    try:
        if os.fork() == 0:
            time.sleep(50)
            os._exit(0)
        n += 1
    except OSError: break
if n > 600: print(sum(map(int, sys.stdin.readline().split())))
time.sleep(50)
