# due: Accepted
# What the first test leaves in any folder that it can write to is looked for in the second.
import os

places = [".", "/tmp", "/dev/shm", os.environ["HOME"], os.environ["TMPDIR"], "/var/tmp", "/run", "/dev/mqueue", "/program"]
numbers = list(map(int, input().split()))
found = []
for at in places:
    found += [at] if os.path.lexists(f"{at}/left") or os.path.lexists(f"{at}/link") else []
    try:
        found += [name for name in os.listxattr(at) if name.startswith("user.")]
    except OSError:
        pass
if os.stat(".").st_mtime < 10**9 or not os.stat(".").st_mode & 0o055 or os.getcwd() != "/work":
    found.append("the folder itself")
if numbers[0] == 1:
    for at in places:
        try:
            with open(f"{at}/left", "w") as file:
                file.write("left")
            os.symlink("left", f"{at}/link")
            os.setxattr(at, "user.left", b"left")
            os.chmod(at, 0o700)
            os.utime(at, (1, 1))
        except OSError:
            pass
print(sum(numbers) if not found else found)
