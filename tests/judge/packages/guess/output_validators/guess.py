"""Answers guesses with `lower`, `higher` or `correct`; ten guesses are too many."""

import sys

with open(sys.argv[1]) as file:
    secret = int(file.readline())


def end(code: int, why: str) -> None:
    with open(sys.argv[3] + "judgemessage.txt", "w") as file:
        file.write(why)
    sys.exit(code)


for number in range(10):
    line = sys.stdin.readline()
    if not line.strip().isdigit():
        end(43, f"no guess: {line[:20]!r}")
    guess = int(line)
    if guess == secret:
        print("correct", flush=True)
        end(42, f"{number + 1} guesses")
    print("lower" if secret < guess else "higher", flush=True)
end(43, "too many guesses")
