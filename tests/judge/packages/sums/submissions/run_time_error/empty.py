n = int(input())
values = list(map(int, input().split()))
print(values[0] + sum(values[1:]))
