import itertools, sys
words = list(map(int, sys.stdin.read().split()))
n, pairs = words[0], list(zip(words[1::2], words[2::2]))
for order in itertools.permutations(range(1, n + 1)):
    at = {x: i for i, x in enumerate(order)}
    if all(at[a] < at[b] for a, b in pairs):
        print(*order)
        break
