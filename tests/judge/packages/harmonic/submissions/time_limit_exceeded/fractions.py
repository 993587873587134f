from fractions import Fraction
print(float(sum(Fraction(1, i) for i in range(1, int(input()) + 1))))
