"""File handles of name_to_handle_at(2) and open_by_handle_at(2).

    handles.py keep MOUNT FILE      makes files in MOUNT and keeps their handles in FILE
    handles.py check MOUNT FILE     what the handles open now is what they were taken of
    handles.py change MOUNT FILE    moves, unlinks and links them
    handles.py lose MOUNT FILE      keeps handles of files that are deleted
    handles.py find MOUNT FILE      makes as many again; the handles open none of them
    handles.py drop                 has the kernel drop the inodes that nobody uses
"""
import base64, ctypes, errno, json, os, stat, sys

libc = ctypes.CDLL(None, use_errno=True)
AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x400, 0x1000
O_PATH = 0o10000000


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handle_of(path):
    handle, mount = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0):
        raise OSError(ctypes.get_errno(), "name_to_handle_at " + path)
    return [handle.type, base64.b64encode(bytes(handle.data[:handle.bytes])).decode()]


def open_handle(mount, kept, flags):
    data = base64.b64decode(kept[1])
    handle = Handle(bytes=len(data), type=kept[0])
    handle.data[:len(data)] = data
    fd = libc.open_by_handle_at(mount, ctypes.byref(handle), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return fd


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def keep(top):
    os.chdir(top)
    os.makedirs("a/deep/er")
    os.mkdir("b")
    for name in ("a/file", "a/deep/er/leaf", "moves", "goes", "open", "replaced", "a/linked"):
        write(name, name)
    write("large", "large" * 100_000)
    os.link("a/linked", "b/link")
    os.symlink("nowhere", "symlink")
    os.mkfifo("fifo")
    os.mknod("null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkdir("dead")
    kept = {}
    for name in ("a a/deep a/deep/er b a/file a/deep/er/leaf moves goes replaced a/linked large symlink "
                 "fifo null dead").split():
        kept[name] = handle_of(name), os.lstat(name).st_ino
    return kept


def path_of(fd):
    return os.readlink("/proc/self/fd/%d" % fd)


def check(top, kept):
    """The names in `gone` are stale; all others are what they were."""
    mount = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for name, (handle, inode) in kept.items():
        if name == "gone":
            continue
        isGone = name in kept.get("gone", ([], 0))[0]
        try:
            fd = open_handle(mount, handle, O_PATH)
        except OSError as error:
            assert isGone and error.errno == errno.ESTALE, "%s: %s" % (name, error)
            continue
        assert not isGone, name + " is gone and can be opened"
        status = os.fstat(fd)
        assert status.st_ino == inode, "%s: inode %d, not %d" % (name, status.st_ino, inode)
        if stat.S_ISREG(status.st_mode):
            file = open_handle(mount, handle, os.O_RDWR)
            text = os.read(file, 1000).decode()
            assert text == (name if name != "large" else "large" * 200), (name, text)
            os.utime(file)
            os.close(file)
        elif stat.S_ISDIR(status.st_mode):
            # The kernel has to find the directory's place in the tree, by `..` up to the root.
            found = path_of(fd)
            assert os.stat(found).st_ino == inode and found.startswith(top), (name, found)
            directory = open_handle(mount, handle, os.O_RDONLY | os.O_DIRECTORY)
            names = os.listdir(directory)
            for entry in names:
                os.stat(entry, dir_fd=directory, follow_symlinks=False)
            parent = os.stat("..", dir_fd=directory).st_ino
            assert parent == os.stat(os.path.dirname(found)).st_ino, name
            write("/proc/self/fd/%d/new" % directory, "made by a handle")
            os.unlink("new", dir_fd=directory)
            os.close(directory)
        elif stat.S_ISLNK(status.st_mode):
            assert os.readlink("", dir_fd=fd) == "nowhere"
        os.close(fd)
    os.close(mount)


def change(top, kept):
    os.chdir(top)
    os.rename("moves", "b/moved")
    os.rename("a/deep", "b/deeper")
    os.unlink("a/linked")  # Its other name stays.
    os.unlink("goes")
    os.rmdir("dead")
    write("new", "new")
    os.rename("new", "replaced")
    kept["gone"] = ["goes", "dead", "replaced"], 0


LOST = 50


def lose(top, kept):
    os.chdir(top)
    os.mkdir("lost")
    for index in range(LOST):
        name = "lost/%d" % index
        write(name, "old")
        kept[name] = handle_of(name), os.stat(name).st_ino
    for index in range(LOST):
        os.unlink("lost/%d" % index)


def find(top, kept):
    os.chdir(top)
    mount = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    lost = {name: kept.pop(name) for name in list(kept) if name.startswith("lost/")}
    numbers = set()
    for name in lost:
        write(name, "new")
        numbers.add(os.stat(name).st_ino)
    print("%d numbers were given again" % len(numbers & {inode for _, inode in lost.values()}))
    for name, (handle, _) in lost.items():
        try:
            fd = open_handle(mount, handle, os.O_RDONLY)
        except OSError as error:
            assert error.errno == errno.ESTALE, error
            continue
        raise AssertionError("%s opens %r" % (name, os.read(fd, 10)))


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")


if sys.argv[1] == "drop":
    drop_caches()
    sys.exit()
_, what, top, path = sys.argv
if what == "keep":
    kept = keep(top)
else:
    with open(path) as file:
        kept = json.load(file)
    {"check": check, "change": change, "lose": lose, "find": find}[what](top, kept)
with open(path, "w") as file:
    json.dump(kept, file)
