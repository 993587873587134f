x = int(input())
print(x + (3 if x >= 100 else 0))
