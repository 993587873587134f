# due: OutputLimitExceeded RuntimeError
import os, signal, sys, time
signal.alarm(60)
for _ in range(10**6): sys.stderr.write('x' * 1000)
