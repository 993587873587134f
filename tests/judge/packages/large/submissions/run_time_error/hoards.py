n = int(input())
x = [bytes(3000) for _ in range(n)]
print(n * (n + 1) // 2)
