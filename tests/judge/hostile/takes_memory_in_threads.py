# due: MemoryLimitExceeded
import os, signal, sys, time
signal.alarm(60)
import threading
kept = []
def take():
    kept.append(bytearray(b'x' * (50 << 20)))
    time.sleep(50)
for _ in range(6): threading.Thread(target=take, daemon=True).start()
time.sleep(50)
