# due: RuntimeError
import os, signal, sys, time
signal.alarm(60)
os._exit(126)
