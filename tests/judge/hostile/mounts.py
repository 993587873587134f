# due: Accepted
# No file system can be mounted, moved or made writable, by the old calls or by the new ones.
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
REMOUNT, BIND, MOVE = 32, 4096, 8192
done = []
for flags in (0, BIND, REMOUNT, REMOUNT | BIND, MOVE):
    done += [flags] if libc.mount(b"/tmp", b"/work", b"tmpfs", flags, None) == 0 else []
done += ["umount"] if libc.umount2(b"/proc", 2) == 0 or libc.umount2(b"/tmp", 2) == 0 else []
done += ["open_tree"] if libc.syscall(428, -100, b"/", 1) >= 0 else []
done += ["fsopen"] if libc.syscall(430, b"tmpfs", 0) >= 0 else []
done += ["mount_setattr"] if libc.syscall(442, -100, b"/usr", 0, b"\0" * 8 + b"\1" + b"\0" * 23, 32) == 0 else []
done += ["chroot"] if libc.chroot(b"/tmp") == 0 else []
done += ["pivot_root"] if libc.syscall(155 if os.uname().machine == "x86_64" else 41, b"/tmp", b"/tmp") == 0 else []
for name in ("mnt", "net", "pid", "user"):
    space = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
    done += [f"setns {name}"] if libc.setns(space, 0) == 0 else []
    os.close(space)
print(sum(map(int, input().split())) if not done else done)
