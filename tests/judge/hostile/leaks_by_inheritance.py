# due: Accepted
# What a process inherits is the same in each test: open files, signals, the mask, the folder, priority and limits.
import os
import resource
import signal
import time

numbers = list(map(int, input().split()))
odd = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 3]
odd += [name for name in ("SIGUSR1", "SIGCHLD", "SIGTERM") if signal.getsignal(getattr(signal, name)) != signal.SIG_DFL]
odd += list(signal.pthread_sigmask(signal.SIG_BLOCK, ())) + list(signal.sigpending())
odd += ["umask"] if os.umask(0o077) != 0o022 else []
odd += ["cwd"] if os.getcwd() != "/work" or os.listdir(".") else []
odd += ["nice"] if os.nice(0) > 19 else []
odd += ["files"] if resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 256 else []
odd += ["CPU time"] if time.process_time() > 0.4 else []
odd += ["a timer"] if signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0) else []
for name in ("SIGUSR1", "SIGCHLD", "SIGTERM"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
os.kill(os.getpid(), signal.SIGUSR2)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
signal.setitimer(signal.ITIMER_REAL, 100)
os.chdir("/")
print(sum(numbers) if not odd else odd, flush=True)
