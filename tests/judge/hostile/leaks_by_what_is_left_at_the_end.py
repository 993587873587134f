# due: Accepted
# The box of the next test is built as soon as this program has ended: whatever it leaves behind at that moment, in
# processes that go on starting others and in every folder that it may write to, must not be there.
import os
import signal
import sys

a, b = map(int, sys.stdin.read().split())
marks = [f"{place}/left" for place in (".", "/tmp", "/dev/shm")]
seen = [mark for mark in marks if os.path.exists(mark)]
others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
print(a + b if not seen and not others else (seen, others), flush=True)
for mark in marks:
    open(mark, "w").close()
for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        pass
if os.fork() == 0:
    os.setsid()
    for fd in range(3):
        os.close(fd)
    while True:
        if os.fork():
            os._exit(0)
        for mark in marks:
            try:
                open(mark, "a").close()
            except OSError:
                pass
