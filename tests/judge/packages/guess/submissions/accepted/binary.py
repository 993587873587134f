low, high = 1, 1000
print(500)
