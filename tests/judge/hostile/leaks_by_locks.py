# due: Accepted
# Locks and times of files that both tests can see: what the first one does to them is gone in the second.
import fcntl
import os
import time

numbers = list(map(int, input().split()))
names = [__file__, os.path.dirname(__file__), "/proc/version"]
found, left = [], []
for name in names:
    try:
        file = os.open(name, os.O_RDONLY)
    except OSError:
        continue
    left.append(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        found.append(f"locked: {name}")
    except OSError:
        pass
    if numbers[0] == 1:
        for change in (lambda: os.utime(name, (1, 1)), lambda: os.setxattr(name, "user.left", b"1")):
            try:
                change()
                found.append(f"changed: {name}")
            except OSError:
                pass
    elif os.stat(name).st_mtime == 1:
        found.append(f"the time of {name}")
if numbers[0] == 1 and os.fork() == 0:
    os.setsid()
    time.sleep(30)  # holds the locks if it outlives its test
print(sum(numbers) if not found else found)
