# due: Accepted
import os, signal, sys, time
signal.alarm(60)
print(sum(map(int, sys.stdin.readline().split())))
sys.stdout.flush()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(50)
    os._exit(0)
