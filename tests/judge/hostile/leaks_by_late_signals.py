# due: Accepted
# A process that the first test leaves behind signals all that it can reach, again and again; the second is not hit.
import os
import signal
import time

hit = []
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
    signal.signal(number, lambda number, _: hit.append(number))
numbers = list(map(int, input().split()))
if numbers[0] == 1:
    first = os.getpid()
    if os.fork() == 0:
        os.setsid()
        while os.getppid() == first:  # it would hit its own parent, which may end well
            time.sleep(0.0005)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        for _ in range(50):
            time.sleep(0.02)
            for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM):
                try:
                    os.kill(-1, number)
                except OSError:
                    pass
        os._exit(0)
else:
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        time.sleep(0.02)
print(sum(numbers) if numbers[0] == 1 or not hit else hit)
