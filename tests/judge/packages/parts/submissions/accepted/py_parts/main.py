from tools.square import square
print(square(int(input())))
