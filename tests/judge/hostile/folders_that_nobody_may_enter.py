# due: Accepted
import os, signal, sys, time
signal.alarm(60)
for i in range(5):
    os.makedirs(f'{i}/a/b')
    open(f'{i}/a/f', 'w').close()
    os.chmod(f'{i}/a', 0)
    os.chmod(str(i), 0)
print(sum(map(int, sys.stdin.readline().split())))
