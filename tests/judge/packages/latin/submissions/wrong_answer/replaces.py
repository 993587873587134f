import sys
sys.stdin.reconfigure(errors='replace')
print(input()[::-1])
