"""Prints all that a tree is, one line for each name, so that two moments of it can be compared.

    snapshot.py DIRECTORY > FILE
"""
import hashlib, json, os, stat, sys

os.chdir(os.fsencode(sys.argv[1]))


def line(path):
    found = os.lstat(path)
    content = None
    if stat.S_ISLNK(found.st_mode):
        content = repr(os.readlink(path))
    elif stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
        content = digest.hexdigest()
    attributes = {name: os.getxattr(path, name, follow_symlinks=False).hex()
                  for name in os.listxattr(path, follow_symlinks=False)}
    return json.dumps([repr(path), oct(found.st_mode), found.st_ino, found.st_uid, found.st_gid,
                       found.st_nlink, found.st_rdev,
                       0 if stat.S_ISDIR(found.st_mode) else found.st_size,
                       found.st_mtime_ns, found.st_ctime_ns, content, attributes])


print(line(b"."))
for directory, subdirectories, files in os.walk(b"."):
    subdirectories.sort()
    for name in sorted(subdirectories + files):
        print(line(os.path.join(directory, name)))
