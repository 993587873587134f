# due: Accepted
# The first process of the box builds it and says how the program ended: nothing of it can be read, and no signal hits it.
import ctypes
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
seen = []
for name in ("environ", "mem", "maps", "root", "cwd", "exe", "fd", "ns/mnt", "stack", "syscall"):
    at = f"/proc/1/{name}"
    for read in (lambda: open(at, "rb").read(64), lambda: os.readlink(at), lambda: os.listdir(at)):
        try:
            seen += [at] if read() else []
        except OSError:
            pass
with open("/proc/1/cmdline", "rb") as file:
    told = file.read().replace(b"\0", b"")
seen += ["cmdline"] if b"nbrun" in told or b"task-" in told else []
for number in range(1, signal.NSIG):
    try:
        os.kill(1, number)
    except OSError:
        pass
seen += ["ptrace"] if libc.ptrace(16, 1, 0, 0) == 0 else []
seen += ["pidfd_getfd"] if libc.syscall(438, libc.syscall(434, 1, 0), 0, 0) >= 0 else []
print(sum(map(int, input().split())) if not seen else seen)
