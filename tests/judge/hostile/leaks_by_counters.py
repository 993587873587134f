# due: Accepted
# What the first test sent over the network of its box, and the processes that it started, are not counted in the second.
import os
import socket


def numbers_of(path, name):
    with open(path) as file:
        lines = [line.split() for line in file if line.startswith(name)]
    return dict(zip(lines[0], lines[1]))


def odd():
    found = [] if numbers_of("/proc/net/snmp", "Udp:")["OutDatagrams"] == "0" else ["datagrams"]
    with open("/proc/net/dev") as file:
        found += ["bytes"] if [line for line in file if "lo:" in line and line.split()[1] != "0"] else []
    for kind in ("unix", "udp", "tcp"):
        with open(f"/proc/net/{kind}") as file:
            found += [kind] if len(file.readlines()) > 1 else []
    return found + (["process ids"] if os.getpid() > 20 else [])


numbers = list(map(int, input().split()))
found = odd()
if numbers[0] == 1:
    left = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET)]
    left[0].bind(("127.0.0.1", 4242))
    left[0].sendto(b"left", ("127.0.0.1", 4242))
    left[1].bind(("127.0.0.1", 4242))
    left[1].listen(1)
    for _ in range(30):
        if os.fork() == 0:
            os._exit(0)
        os.wait()
    if not odd():
        found.append("counters that count nothing")
print(sum(numbers) if not found else found)
