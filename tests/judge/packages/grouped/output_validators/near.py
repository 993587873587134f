import sys
name, most = sys.argv[4:]
assert name == "at_most"
right = int(open(sys.argv[2]).read())
try:
    off = abs(int(sys.stdin.read()) - right)
except ValueError:
    sys.exit(43)
with open(sys.argv[3] + "judgemessage.txt", "w") as file:
    file.write(f"off by {off}, {most} would do")
sys.exit(42 if off <= int(most) else 43)
