# due: Accepted
import os, signal, sys, time
signal.alarm(60)
print(sum(map(int, sys.stdin.readline().split())))
sys.stdout.flush()
if os.fork() == 0:
    os.setsid()
    time.sleep(0.2)
    os.write(1, b'7 ' * 100)
