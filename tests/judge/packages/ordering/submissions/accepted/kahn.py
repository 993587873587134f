import heapq, sys
words = list(map(int, sys.stdin.read().split()))
n, pairs = words[0], list(zip(words[1::2], words[2::2]))
after, before = [[] for _ in range(n + 1)], [0] * (n + 1)
for a, b in pairs:
    after[a].append(b)
    before[b] += 1
ready = [i for i in range(1, n + 1) if not before[i]]
out = []
while ready:
    x = heapq.heappop(ready)
    out.append(x)
    for y in after[x]:
        before[y] -= 1
        if not before[y]: heapq.heappush(ready, y)
print(*out)
