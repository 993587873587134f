# due: RuntimeError
import os, signal, sys, time
signal.alarm(60)
print('\ud800')
