# due: TimeLimitExceeded RuntimeError
import os, signal, sys, time
signal.alarm(60)
for _ in range(10):
    try: os.fork()
    except OSError: pass
while time.monotonic(): pass
