# due: Accepted
import os, signal, sys, time
signal.alarm(60)
import socket
def reach(family, address):
    try: socket.socket(family, socket.SOCK_STREAM).connect(address)
    except OSError: return False
    return True
if not any([reach(socket.AF_INET, ('127.0.0.1', 22)), reach(socket.AF_INET, ('8.8.8.8', 53)), reach(socket.AF_UNIX, '\0nbrun-test')]): print(sum(map(int, sys.stdin.readline().split())))
