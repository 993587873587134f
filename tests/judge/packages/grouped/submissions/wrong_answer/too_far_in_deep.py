x = int(input())
print(x + (3 if x == 200 else 0))
