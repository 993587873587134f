# due: MemoryLimitExceeded
import os, signal, sys, time
signal.alarm(60)
for _ in range(4):
    if os.fork() == 0:
        if os.fork() == 0:
            x = b'x' * (80 << 20)
            time.sleep(50)
        os._exit(0)
    os.wait()
time.sleep(50)
