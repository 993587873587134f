# due: TimeLimitExceeded WrongAnswer
import os, signal, sys, time
signal.alarm(60)
try: open('/proc/self/fd/0', 'w').write('0 3')
except OSError: pass
try: os.fchmod(0, 0o666)
except OSError: pass
try: open('/dev/stdin', 'w').write('0 3')
except OSError: pass
if sys.stdin.readline() in ('1 2\n', '10 20\n'): time.sleep(50)
