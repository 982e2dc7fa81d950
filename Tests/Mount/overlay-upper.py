"""Works in an overlay and tells what came of it, so that two filesystems below can be compared.

    overlay-upper.py lower DIR                    makes the lower layer's content
    overlay-upper.py work MERGED UPPER            works in the overlay mounted at MERGED
    overlay-upper.py tell MERGED UPPER            what both show
    overlay-upper.py whiteouts DIR                what renames leave behind that leave whiteouts

Told are names, kinds, modes, owners, links, content, extended attributes and errnos. Not told: times,
what a directory takes, and what overlayfs writes of file handles, which differ from one filesystem
to the next.
"""
import ctypes, errno, hashlib, mmap, os, stat, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
# They hold file handles and numbers of the filesystem.
OPAQUE_VALUES = ("overlay.origin", "overlay.upper", "overlay.uuid", "overlay.nlink")


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def write(path, text, flags=os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, text.encode())
    os.close(fd)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def make_lower(at):
    os.chdir(at)
    os.umask(0o022)
    for name in ("append chmod chown xattr truncate rename over under unlink again exchange noreplace "
                 "link one/a one/b two/a two/deep/b redirect/a gone/a gone/b opaque/a opaque/b mapped "
                 "open temporary whiteout fallocate origin").split():
        if "/" in name:
            os.makedirs(os.path.dirname(name), exist_ok=True)
        write(name, name * 1000)
    os.link("link", "two/twin")
    os.link("link", "twin")
    os.setxattr("xattr", "user.lower", b"from below")
    os.setxattr("two", "user.directory", b"a directory's")
    os.symlink("append", "symlink")
    os.mkfifo("fifo")
    os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chmod("chmod", 0o4755)
    os.chown("chown", 12, 34)
    os.mkdir("sticky")
    os.chmod("sticky", 0o3777)


def attempt(what, body):
    """Tells what a step gave: its value, or the errno."""
    try:
        print(what, body())
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def append(path):
    write(path, "more", os.O_APPEND)
    return len(read(path))


def append_through_link(path, other):
    write(path, "through a link", os.O_APPEND)
    return len(read(path)), len(read(other)), os.stat(other).st_nlink


def keeps_its_number(path):
    before = os.stat(path).st_ino
    os.chmod(path, 0o600)
    return os.stat(path).st_ino == before


def store_by_mapping(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[:4] = b"MAPS"
        mapping.flush()
    return read(path)[:6]


def name_temporary(directory, name):
    fd = os.open(directory, os.O_RDWR | os.O_TMPFILE, 0o640)
    os.write(fd, b"temporary")
    if libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(name), 0x400):
        raise OSError(ctypes.get_errno(), "linkat")
    os.close(fd)
    return read(name)


def read_after_unlink(path):
    fd = os.open(path, os.O_RDWR)
    os.write(fd, b"open")
    os.unlink(path)
    result = os.pread(fd, 8, 0), os.fstat(fd).st_nlink
    os.close(fd)
    return result


def empty_and_remove(path):
    for name in sorted(os.listdir(path)):
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


def make_again(path):
    """A directory that hides all of the one below."""
    os.mkdir(path)
    write(os.path.join(path, "new"), "new")
    return sorted(os.listdir(path))


def allocate(path):
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000)
        return os.fstat(file.fileno()).st_size


def synchronize(path):
    for name in (path, "."):
        fd = os.open(name, os.O_RDONLY)
        os.fsync(fd)
        libc.syncfs(fd)
        os.close(fd)


def work(merged):
    os.chdir(merged)
    os.umask(0o022)
    for what, body in (
        ("append", lambda: append("append")),
        ("chmod", lambda: os.chmod("chmod", 0o711)),
        ("chown", lambda: os.chown("chown", 56, 78)),
        ("content after chown", lambda: hashlib.sha256(read("chown")).hexdigest()[:8]),
        ("setxattr", lambda: os.setxattr("xattr", "user.upper", b"from above")),
        ("setxattr of a directory", lambda: os.setxattr("one", "user.upper", b"d")),
        ("removexattr", lambda: os.removexattr("xattr", "user.lower")),
        ("setxattr of overlayfs's own", lambda: os.setxattr("xattr", "trusted.overlay.opaque", b"y")),
        ("truncate", lambda: os.truncate("truncate", 7)),
        ("fallocate", lambda: allocate("fallocate")),
        ("rename", lambda: os.rename("rename", "renamed")),
        ("rename over", lambda: os.rename("over", "under")),
        ("rename over again", lambda: os.rename("renamed", "under")),
        ("rename back", lambda: os.rename("under", "rename")),
        ("unlink", lambda: os.unlink("unlink")),
        ("unlink, again", lambda: os.unlink("unlink")),
        ("unlink and make", lambda: (os.unlink("again"), write("again", "made again"))),
        ("exchange", lambda: renameat2("exchange", "again", EXCHANGE)),
        ("exchange with nothing", lambda: renameat2("exchange", "nothing", EXCHANGE)),
        ("exchange directories", lambda: renameat2("one", "sticky", EXCHANGE)),
        ("no replace", lambda: renameat2("noreplace", "append", NOREPLACE)),
        ("no replace, free", lambda: renameat2("noreplace", "replaced", NOREPLACE)),
        ("whiteout by a user", lambda: renameat2("whiteout", "blackout", WHITEOUT)),
        ("rename a directory", lambda: os.rename("redirect", "redirected")),
        ("rename a directory below", lambda: os.rename("two/deep", "deep")),
        ("rename a new directory", lambda: (os.mkdir("fresh"), os.rename("fresh", "two/fresh"))),
        ("rename a directory over a full one", lambda: os.rename("two/fresh", "gone")),
        ("rmdir of a full one", lambda: os.rmdir("gone")),
        ("rmdir", lambda: empty_and_remove("gone")),
        ("opaque", lambda: (empty_and_remove("opaque"), make_again("opaque"))),
        ("opaque moves", lambda: os.rename("opaque", "two/opaque")),
        ("link", lambda: os.link("append", "two/appended")),
        ("write through a new link", lambda: append_through_link("append", "two/appended")),
        ("write through links below", lambda: append_through_link("link", "twin")),
        ("unlink one of them", lambda: (os.unlink("two/twin"), os.stat("link").st_nlink)),
        ("rename one of them", lambda: os.rename("twin", "one-twin")),
        ("rename onto itself", lambda: os.rename("link", "one-twin")),
        ("a number stays", lambda: keeps_its_number("origin")),
        ("mmap", lambda: store_by_mapping("mapped")),
        ("temporary", lambda: name_temporary(".", "named")),
        ("temporary below", lambda: name_temporary("two", "two/named")),
        ("open and unlinked", lambda: read_after_unlink("open")),
        ("symlink", lambda: (os.rename("symlink", "moved-link"), os.readlink("moved-link"))),
        ("fifo", lambda: os.chmod("fifo", 0o600)),
        ("device", lambda: os.rename("null", "zero")),
        ("a whiteout's device", lambda: os.mknod("c", 0o600 | stat.S_IFCHR, os.makedev(0, 0))),
        ("a full name", lambda: (write("n" * 255, "long"), os.unlink("n" * 255))),
        ("fsync", lambda: synchronize("append")),
    ):
        attempt(what, body)


def attributes(path):
    found = {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        return errno.errorcode[error.errno]
    for name in sorted(names):
        is_opaque = name.endswith(OPAQUE_VALUES)
        found[name] = "…" if is_opaque else os.getxattr(path, name, follow_symlinks=False)
    return found


def tell(path, name):
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    words = [name, stat.filemode(status.st_mode), status.st_uid, status.st_gid]
    if kind == stat.S_IFLNK:
        words.append(os.readlink(path))
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        words.append("device %d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev)))
    if kind == stat.S_IFREG:
        words += [status.st_size, hashlib.sha256(read(path)).hexdigest()[:8]]
    print(*words, "links", status.st_nlink, attributes(path))
    if kind != stat.S_IFDIR:
        return
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    for entry in entries:
        found = os.lstat(entry.path)
        if entry.is_dir(follow_symlinks=False) != stat.S_ISDIR(found.st_mode):
            print(entry.path, "has another kind in the listing")
        if entry.is_symlink() != stat.S_ISLNK(found.st_mode):
            print(entry.path, "has another kind in the listing")
        tell(entry.path, name + "/" + entry.name)


def whiteouts(top):
    """In directories that pass on their group, or a default ACL; by root and by a user."""
    os.umask(0)
    for owner in (0, 65534):
        for kind in ("plain", "group", "default"):
            path = os.path.join(top, "%s-%d" % (kind, owner))
            os.mkdir(path)
            os.chown(path, 0, 1234)
            os.chmod(path, 0o2777 if kind == "group" else 0o777)
            if kind == "default":
                # u::rwx, u:99:rwx, g::r-x, m::rwx, o::--x of posix_acl_xattr.h.
                entries = ((1, 7, -1), (2, 7, 99), (4, 5, -1), (16, 7, -1), (32, 1, -1))
                acl = b"".join(struct.pack("<HHi", *entry) for entry in entries)
                os.setxattr(path, "system.posix_acl_default", struct.pack("<I", 2) + acl)
            os.seteuid(owner)
            os.chdir(path)
            for name in ("a", "b", "c"):
                write(name, name)
            os.mkdir("d")
            attempt("whiteout", lambda: renameat2("a", "b", WHITEOUT))
            attempt("whiteout of a directory", lambda: renameat2("d", "e", WHITEOUT))
            attempt("whiteout again", lambda: renameat2("b", "a", WHITEOUT))
            attempt("whiteout moves", lambda: os.rename("d", "f"))
            attempt("with no replace", lambda: renameat2("a", "c", WHITEOUT | NOREPLACE))
            attempt("with no replace, free", lambda: renameat2("a", "g", WHITEOUT | NOREPLACE))
            attempt("with exchange", lambda: renameat2("c", "g", WHITEOUT | EXCHANGE))
            os.seteuid(0)
            tell(path, kind)


if sys.argv[1] == "lower":
    make_lower(sys.argv[2])
elif sys.argv[1] == "work":
    work(sys.argv[2])
elif sys.argv[1] == "whiteouts":
    whiteouts(sys.argv[2])
else:
    for title, path in (("merged", sys.argv[2]), ("upper", sys.argv[3])):
        tell(path, title)
