# due: OutputLimitExceeded TimeLimitExceeded
import os, signal, sys, time
signal.alarm(60)
for i in range(30000):
    os.close(os.open(str(i), os.O_CREAT))
    if i > 12000: time.sleep(0.1)
