# due: OutputLimitExceeded
import os, signal, sys, time
signal.alarm(60)
for i in range(40):
    with open(f'/dev/shm/{i}', 'wb') as f: f.write(b'x' * 1000000)
time.sleep(50)
