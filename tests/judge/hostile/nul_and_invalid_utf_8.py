# due: WrongAnswer
import os, signal, sys, time
signal.alarm(60)
sys.stdout.buffer.write(b'3\0\xff\xfe\xed\xa0\x80\n')
