print('%.7f' % sum(1 / i for i in range(1, int(input()) + 1)))
