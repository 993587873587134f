n = int(input())
i = n - 1
while n % i:
    i -= 1
print(i)
