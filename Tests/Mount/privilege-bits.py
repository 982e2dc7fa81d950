"""What each operation leaves of set-user-id, set-group-id and file capabilities: the same as on ext4.

    privilege-bits.py DIRECTORY                   prints one line for each case: what, and what came of it
    privilege-bits.py --compare EXPECTED FOUND    prints `ok NAME` or `not ok NAME: why` for each operation

A case is an operation on a file with certain bits, by a certain caller: how it ends, the mode and the
capability after it, and as whom the file then runs, which is asked before anybody looks at the mode.
Needs root, and an x86-64 processor for the last.
"""
import ctypes, errno, fcntl, itertools, json, mmap, os, platform, shutil, socket, struct, sys
import tempfile, time, traceback

libc = ctypes.CDLL(None, use_errno=True)
OWNER, GROUP, STRANGER, ELSEWHERE = 1001, 2002, 1003, 2004
INLINE, FLAT = 300, 40_000
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # CAP_NET_RAW, effective
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
FICLONE = 0x40049409
CAP_FSETID = 4


def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def program():
    """An ELF file that exits with the low bits of its effective user and group."""
    code = bytes.fromhex("b86b0000000f0589c3b86c0000000f0583e30fc1e0042df0000000".replace(
        "2df0000000", "25f0000000") + "09d889c7b83c0000000f05")
    base = 0x400000
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01" + bytes(9), 2, 62, 1,
                       base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, 120 + len(code), 120 + len(code), 4096)
    return head + segment + code


def beside(path, name):
    return os.path.join(os.path.dirname(path), name)


# MARK: Operations, by the caller. Those that take a descriptor get one that was opened for writing.

def copy(fd, source, count, at):
    with open(source, "rb") as file:
        os.copy_file_range(file.fileno(), fd, count, 0, at)


def write_by(flags, data=b"more", at=None):
    def operation(path):
        fd = os.open(path, os.O_WRONLY | flags)
        try:
            if at is None:
                os.lseek(fd, 0, os.SEEK_END)
                os.write(fd, data)
            else:
                os.pwrite(fd, data, at)
        finally:
            os.close(fd)
    return operation


def by_descriptor(body):
    def operation(path):
        fd = os.open(path, os.O_RDWR)
        try:
            body(fd, path)
        finally:
            os.close(fd)
    return operation


def of_reader(body):
    def operation(path):
        with open(path, "rb") as file:
            body(file.fileno())
    return operation


def direct(path):
    fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as page:
            os.pwritev(fd, [page], 40_960)
    finally:
        os.close(fd)


def splice(fd, path):
    reader, writer = os.pipe()
    os.write(writer, b"more")
    os.splice(reader, fd, 4, offset_dst=os.fstat(fd).st_size)
    os.close(reader)
    os.close(writer)


def sendfile(fd, path):
    os.lseek(fd, 0, os.SEEK_END)
    with open(beside(path, "small"), "rb") as source:
        os.sendfile(fd, source.fileno(), 0, 4)


def store(fd, path):
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, size) as mapping:
        mapping[size - 1] = 7
        mapping.flush()


def clone(path):
    with open(beside(path, "large"), "rb") as source:
        fd = os.open(path, os.O_WRONLY)
        try:
            fcntl.ioctl(fd, FICLONE, source.fileno())
        except OSError:
            pass  # neither has it
        finally:
            os.close(fd)


def allocate(mode, offset, length):
    return by_descriptor(lambda fd, path: call(
        "fallocate", fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def acl(*entries):
    entries = [(1, 7, -1), *entries, (32, 7, -1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    return lambda path: os.setxattr(path, "system.posix_acl_access", value)


def link(path):
    os.link(path, path + ".link")


def rename(path):
    os.rename(path, path + ".new")
    os.rename(path + ".new", path)


OPERATIONS = {
    "nothing": lambda path: None,
    "write": write_by(0),
    "write of nothing": write_by(0, b""),
    "pwrite": write_by(0, at=200),
    "append": write_by(os.O_APPEND),
    "write, O_SYNC": write_by(os.O_SYNC),
    "write, O_DIRECT": direct,
    "writev": by_descriptor(lambda fd, path: os.pwritev(fd, [b"mo", b"re"], 200)),
    "splice": by_descriptor(splice),
    "sendfile": by_descriptor(sendfile),
    "store to a mapping": by_descriptor(store),
    "truncate to less": lambda path: os.truncate(path, 290),
    "truncate to as much": lambda path: os.truncate(path, os.stat(path).st_size),
    "truncate to more": lambda path: os.truncate(path, 50_000),
    "ftruncate": by_descriptor(lambda fd, path: os.ftruncate(fd, 290)),
    "open with O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "fallocate": allocate(0, 0, 60_000),
    "fallocate of what is there": allocate(0, 0, 100),
    "fallocate, keep size": allocate(KEEP_SIZE, 0, 60_000),
    "zero range": allocate(ZERO_RANGE, 200, 50),
    "punch hole": allocate(PUNCH_HOLE | KEEP_SIZE, 200, 50),
    "punch hole behind the end": allocate(PUNCH_HOLE | KEEP_SIZE, 80_000, 4096),
    "copy_file_range": by_descriptor(lambda fd, path: copy(fd, beside(path, "small"), 50, 200)),
    "copy_file_range of much": by_descriptor(
        lambda fd, path: copy(fd, beside(path, "large"), FLAT, 0)),
    "copy_file_range of nothing": by_descriptor(
        lambda fd, path: os.copy_file_range(os.open(beside(path, "small"), os.O_RDONLY), fd, 9, FLAT, 0)),
    "FICLONE": clone,
    "chown to nobody else": lambda path: os.chown(path, -1, -1),
    "lchown to nobody else": lambda path: os.lchown(path, -1, -1),
    "fchown to nobody else": of_reader(lambda fd: os.fchown(fd, -1, -1)),
    "chown to its owner": lambda path: os.chown(path, OWNER, -1),
    "chown to its group": lambda path: os.chown(path, -1, GROUP),
    "chown to another group": lambda path: os.chown(path, -1, ELSEWHERE),
    "chown to another owner": lambda path: os.chown(path, STRANGER, -1),
    "chmod to the same": lambda path: os.chmod(path, os.stat(path).st_mode & 0o7777),
    "chmod to all bits": lambda path: os.chmod(path, 0o6777),
    "chmod without group execution": lambda path: os.chmod(path, 0o6767),
    "set an ACL": acl((2, 7, STRANGER), (4, 7, -1), (16, 7, -1)),
    "set an ACL as the mode": acl((4, 7, -1)),
    "set an attribute": lambda path: os.setxattr(path, "user.note", b"note"),
    "set times": lambda path: os.utime(path),
    "link": link,
    "rename": rename,
}


def copy_whole(name):
    return by_descriptor(lambda fd, path: copy(fd, beside(path, name), FLAT, 0))


# On a file that is empty.
ON_EMPTY = {
    "copy_file_range of a small file into an empty one": copy_whole("small"),
    "copy_file_range of a large file into an empty one": copy_whole("large"),
    "write to an empty file": write_by(0),
    "truncate an empty file": lambda path: os.truncate(path, 0),
}

# With a descriptor that was opened when the file had no such bits yet.
EARLIER = {
    "write, opened before": lambda fd, path: os.pwrite(fd, b"more", 200),
    "splice, opened before": splice,
    "store to a mapping, opened before": store,
    "ftruncate, opened before": lambda fd, path: os.ftruncate(fd, 290),
    "punch hole, opened before": lambda fd, path: call(
        "fallocate", fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_int64(200), ctypes.c_int64(50)),
    "copy_file_range, opened before": lambda fd, path: copy(fd, beside(path, "small"), 50, 200),
}

# While somebody else has the file open to read.
BESIDE_READER = {
    "write, beside a reader": write_by(0),
    "splice, beside a reader": by_descriptor(splice),
    "truncate, beside a reader": lambda path: os.truncate(path, 290),
    "open with O_TRUNC, beside a reader": OPERATIONS["open with O_TRUNC"],
    "punch hole, beside a reader": OPERATIONS["punch hole"],
    "copy_file_range, beside a reader": OPERATIONS["copy_file_range"],
}

EVERY = {**OPERATIONS, **ON_EMPTY, **EARLIER, **BESIDE_READER}

BITS = [(0o777, True), (0o4777, False), (0o4777, True), (0o2777, False), (0o6777, True),
        (0o2767, False), (0o6767, True)]


# MARK: Callers

def set_effective(select):
    """capset(2): of what is effective now, what the function selects stays so."""
    with open("/proc/self/status") as file:
        now = next(int(line.split()[1], 16) for line in file if line.startswith("CapPrm:"))
    low, high = divmod(select(now), 1 << 32)[::-1]
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    call("capset", head, data)


def become(user, group, groups):
    os.setgroups(groups)
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def become_capable():
    call("prctl", 8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    become(STRANGER, ELSEWHERE, [])
    set_effective(lambda now: now & 1 << CAP_FSETID)


def become_root_of_a_namespace():
    become(STRANGER, ELSEWHERE, [])
    call("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: else the files below are root's
    call("unshare", 0x10000000)  # CLONE_NEWUSER
    for name, text in [("uid_map", "0 %d 1" % STRANGER), ("setgroups", "deny"),
                       ("gid_map", "0 %d 1" % ELSEWHERE)]:
        with open("/proc/self/" + name, "w") as file:
            file.write(text)


CALLERS = {
    "root": lambda: None,
    "root without CAP_FSETID": lambda: set_effective(lambda now: now & ~(1 << CAP_FSETID)),
    "the owner": lambda: become(OWNER, ELSEWHERE, []),
    "the owner, in the group": lambda: become(OWNER, ELSEWHERE, [GROUP]),
    "a user": lambda: become(STRANGER, ELSEWHERE, []),
    "a user of the group": lambda: become(STRANGER, GROUP, []),
    "a user with CAP_FSETID": become_capable,
    "root of a namespace": become_root_of_a_namespace,
}


class Agent:
    """A process that is a caller, and does what it is told to."""

    def __init__(self, become):
        here, there = socket.socketpair()
        if os.fork() == 0:
            here.close()
            self.channel = there.makefile("rw")
            try:
                become()
                self.serve()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        there.close()
        self.channel = here.makefile("rw")

    def tell(self, message):
        self.channel.write(json.dumps(message) + "\n")
        self.channel.flush()

    def hear(self):
        return json.loads(self.channel.readline())

    def ask(self, message):
        self.tell(message)
        return self.hear()

    def serve(self):
        while line := self.channel.readline():
            name, path, step = json.loads(line)
            if step == "open":
                self.fd = os.open(path, os.O_RDWR)
                self.tell("open")
                continue
            try:
                if name in EARLIER:
                    try:
                        EARLIER[name](self.fd, path)
                    finally:
                        os.close(self.fd)
                else:
                    EVERY[name](path)
                ended = "done"
            except OSError as error:
                ended = errno.errorcode.get(error.errno, str(error.errno))
            self.tell([ended, self.run(path)])

    def run(self, path):
        if platform.machine() != "x86_64":
            return None
        try:
            pid = os.posix_spawn(path, [path], {})
        except OSError as error:
            return errno.errorcode[error.errno]
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# MARK: Cases

def make(path, size):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o777)
    os.write(fd, (program() + bytes(size))[:size])
    os.fchown(fd, OWNER, GROUP)
    os.fchmod(fd, 0o777)
    os.close(fd)


def make_sources(place):
    for name, length in [("small", 100), ("large", FLAT)]:
        make(place + "/" + name, length)
        try:
            os.getxattr(place + "/" + name, "user.ipfs.cid")  # has it sealed
        except OSError:
            pass


def case(agent, name, path, mode, has_capability):
    if name in EARLIER:
        agent.ask([name, path, "open"])
    os.chmod(path, mode)
    if has_capability:
        os.setxattr(path, "security.capability", CAPABILITY)
    reader = os.open(path, os.O_RDONLY) if name in BESIDE_READER else -1
    ended, runs = agent.ask([name, path, "go"])
    if reader >= 0:
        os.close(reader)
    try:
        capability = "cap" if os.getxattr(path, "security.capability") == CAPABILITY else "other"
    except OSError:
        capability = "-"
    result = "%s %o %s runs %s" % (ended, os.stat(path).st_mode & 0o7777, capability, runs)
    os.unlink(path)
    if os.path.exists(path + ".link"):
        os.unlink(path + ".link")
    return result


def run(directory):
    place = tempfile.mkdtemp(dir=directory)
    os.chmod(place, 0o777)
    os.umask(0)
    make_sources(place)
    for caller, become in CALLERS.items():
        agent = Agent(become)
        for name in EVERY:
            cases = [(place + "/f%d" % index, size, *bits) for index, (size, bits) in
                     enumerate(itertools.product((INLINE, FLAT), BITS))]
            for path, size, *_ in cases:
                make(path, 0 if name in ON_EMPTY else size)
            if name.endswith("chown to nobody else"):
                time.sleep(0.05)  # a close is told some time after it
            for path, size, mode, has_capability in cases:
                result = case(agent, name, path, mode, has_capability)
                what = "%o%s, %d bytes, by %s" % (
                    mode, "+cap" if has_capability else "", size, caller)
                print(name, what, result, sep="\t")
        agent.channel.close()
    shutil.rmtree(place)


def read(path):
    with open(path) as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    return {(name, what): result for name, what, result in lines}


def allowed(name, result):
    """Of a chown(2) that is refused, the kernel removes the capability before it asks FUSE."""
    if name.endswith("chown to nobody else") and result.startswith("EPERM"):
        return result.replace(" cap ", " - ")
    return result


def compare(expected, found):
    expected, found = read(expected), read(found)
    failed = False
    for name in EVERY:
        cases = [key for key in expected if key[0] == name]
        wrong = ["%s: %s for %s" % (key[1], found.get(key), expected[key])
                 for key in cases if found.get(key) != allowed(name, expected[key])]
        if wrong or not cases:
            failed = True
            print("not ok %s: %d of %d: %s" % (name, len(wrong), len(cases), "; ".join(wrong[:3])))
        else:
            print("ok %s" % name)
    sys.exit(failed)


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        compare(*sys.argv[2:])
    else:
        run(sys.argv[1])
