# due: RuntimeError TimeLimitExceeded MemoryLimitExceeded
import os, signal, sys, time
signal.alarm(60)
import threading
for _ in range(2000): threading.Thread(target=time.sleep, args=(50,), daemon=True).start()
