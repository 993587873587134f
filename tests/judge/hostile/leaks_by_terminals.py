# due: Accepted
# Terminals, message queues and names of the machine that the first test makes are not there in the second.
import ctypes
import os
import socket

numbers = list(map(int, input().split()))
libc = ctypes.CDLL(None, use_errno=True)
found = [name for name in os.listdir("/dev/pts") if name != "ptmx"]
found += ["a message queue"] if libc.mq_open(b"/left", os.O_RDWR) >= 0 else []
found += ["a name"] if socket.gethostname() != "box" else []
found += [name for name in (".proc", "old", "new") if os.path.isdir(f"/{name}") and os.listdir(f"/{name}")]
if numbers[0] == 1:
    os.openpty()
    libc.mq_open(b"/left", os.O_RDWR | os.O_CREAT, 0o666, None)
    libc.sethostname(b"left", 4)
    if os.fork() == 0:
        os.setsid()
        os.execv("/bin/sleep", ["sleep", "30"])
print(sum(numbers) if not found else found)
