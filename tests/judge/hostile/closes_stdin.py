# due: WrongAnswer
import os, signal, sys, time
signal.alarm(60)
os.close(0)
print(3)
