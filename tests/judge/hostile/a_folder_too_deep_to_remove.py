# due: Accepted OutputLimitExceeded
import os, signal, sys, time
signal.alarm(60)
for _ in range(3000):
    os.mkdir('d')
    os.chdir('d')
open('f', 'w').close()
print(sum(map(int, sys.stdin.readline().split())))
