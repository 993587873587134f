# due: Accepted
import os, signal, sys, time
signal.alarm(60)
open(b'\xff\xfe\n', 'w').close()
os.symlink('/', 'root')
os.mkfifo('pipe')
os.symlink('loop', 'loop')
print(sum(map(int, sys.stdin.readline().split())))
