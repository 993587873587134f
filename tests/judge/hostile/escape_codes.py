# due: WrongAnswer
import os, signal, sys, time
signal.alarm(60)
print('\x1b]0;owned\x07\x1b[2J\x1b[31m3\r\b')
