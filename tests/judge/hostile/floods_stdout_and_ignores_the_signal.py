# due: OutputLimitExceeded
import os, signal, sys, time
signal.alarm(60)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for _ in range(300):
    try: os.write(1, b'x' * 10000)
    except OSError: pass
