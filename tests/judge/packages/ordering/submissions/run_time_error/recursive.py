import sys
words = list(map(int, sys.stdin.read().split()))
n, pairs = words[0], list(zip(words[1::2], words[2::2]))
after, seen, out = {}, set(), []
for a, b in pairs: after.setdefault(a, []).append(b)
def visit(x):
    if x in seen: return
    seen.add(x)
    for y in after.get(x, []): visit(y)
    out.append(x)
for x in range(n, 0, -1): visit(x)
print(*out[::-1])
