# due: Accepted WrongAnswer
import os, signal, sys, time
signal.alarm(60)
done = []
for call in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.chroot('/tmp'), lambda: os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0)), lambda: os.nice(-5)):
    try:
        call()
        done.append(call)
    except OSError: pass
if not done: print(sum(map(int, sys.stdin.readline().split())))
