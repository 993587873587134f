# due: OutputLimitExceeded
import os, signal, sys, time
signal.alarm(60)
for _ in range(3000):
    os.mkdir('d')
    os.chdir('d')
time.sleep(50)
