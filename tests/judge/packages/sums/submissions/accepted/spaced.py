import sys
words = sys.stdin.read().split()
print()
print("  ", sum(map(int, words[1:])), "\n\n")
