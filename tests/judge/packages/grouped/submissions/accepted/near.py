x = int(input())
print(x + (1 if x >= 100 else 0) + (48 if x >= 1000 else 0))
