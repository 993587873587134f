# due: OutputLimitExceeded
import os, signal, sys, time
signal.alarm(60)
fds = []
for i in range(60):
    fds.append(os.open('f', os.O_CREAT | os.O_WRONLY))
    os.unlink('f')
    os.write(fds[-1], b'x' * 1000000)
time.sleep(50)
