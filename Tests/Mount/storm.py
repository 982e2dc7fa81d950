"""A storm of changes that knows what must still be there when the filesystem dies in the middle.

    storm.py run DIRECTORY JOURNAL [mapped]
        changes a new tree until the filesystem is gone, or the process is killed; `mapped` has it
        store to mappings as well, which a daemon that is gone does not end
    storm.py verify DIRECTORY JOURNAL [BEFORE AFTER]
        says what in the tree the journal does not allow

The journal stands outside of the filesystem under test. Each slot goes through versions 0, 1, 2...;
before a change the journal says which version begins, and after its fsync that it is durable. After
a crash a slot is in the last durable version, or in one begun after it: nothing else, nothing
between. Each slot has a thread, so that syncs of several overlap.

A disk that is copied while the storm goes on is in the state of some moment of the copying. What is
durable then stands in the first BEFORE bytes of the journal, as long as it was when the copying
began, and what may have begun in the first AFTER, as long as it was at the end.
"""
import ctypes, errno, hashlib, json, mmap, os, sys, threading

EACH = 2
DEAD = {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.ECANCELED, errno.EINTR, errno.ENODEV}
EXCHANGE = 2
libc = ctypes.CDLL(None, use_errno=True)


def content(name, version):
    """From nothing to some hundred kilobytes, another one for each slot and version."""
    seed = hashlib.sha256(("%s %d" % (name, version)).encode()).digest()
    size = (0, 20, 71, 108, 4096, 40_000, 300_000)[seed[0] % 7] + seed[1] % 2
    return (seed * (size // len(seed) + 1))[:size]


def write(path, data, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
    try:
        for start in range(0, len(data), 32768):
            os.write(fd, data[start:start + 32768])
        os.fsync(fd)
    finally:
        os.close(fd)


def sync(*directories):
    for directory in directories:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def show(data):
    return "nothing" if data is None else "%d bytes, sha256 %s" % (
        len(data), hashlib.sha256(data).hexdigest()[:8])


def difference(expected, found):
    """Where bytes are not what they should be: by what they are, one can tell whose they are."""
    if found is None or len(found) < len(expected):
        return "too few bytes"
    wrong = [at for at in range(len(expected)) if expected[at] != found[at]]
    if not wrong:
        return "no difference"
    return "%d wrong bytes from %d to %d, which begin with %s for %s" % (
        len(wrong), wrong[0], wrong[-1], found[wrong[0]:wrong[0] + 16].hex(),
        expected[wrong[0]:wrong[0] + 16].hex())


class Slot:
    def __init__(self, number, top):
        self.name = "%s-%d" % (type(self).__name__, number)
        self.at = os.path.join(top, self.name)

    def path(self, *parts):
        return os.path.join(self.at, *parts)

    def start(self):
        os.mkdir(self.at)

    def expect(self, path, data):
        found = read(path)
        if found != data:
            raise AssertionError("%s: expected %s, found %s" % (path, show(data), show(found)))


class Put(Slot):
    """PutContent of a registry: a temporary file, fsync, rename over the old one, fsync directory."""

    def data(self, version):  # never the same for two versions, as empty content would be
        return b"%d:" % version + content(self.name, version)

    def change(self, version):
        temporary = self.path("temporary-%d" % version)
        write(temporary, self.data(version))
        sync(self.at)
        os.rename(temporary, self.path("file"))
        sync(self.at)

    def left_by(self, version):
        return self.data(version) if version else None

    def verify(self, durable, begun):
        data = {self.left_by(version): version for version in range(durable, begun + 1)}
        found = read(self.path("file"))
        assert found in data, "%s: versions %d to %d expected, found %s" % (
            self.name, durable, begun, show(found))
        assert not os.path.exists(self.path("temporary-%d" % data[found])), \
            "%s: both names of a rename are there" % self.name


class Move(Slot):
    """A file that goes between two directories, both synced."""

    def start(self):
        super().start()
        for side in "ab":
            os.mkdir(self.path(side))
        write(self.path("a", "file"), content(self.name, 0) + b"moved")
        sync(self.path("a"), self.path("b"), self.at)

    def change(self, version):
        source, target = self.path("ba"[version % 2]), self.path("ab"[version % 2])
        os.rename(os.path.join(source, "file"), os.path.join(target, "file"))
        sync(target, source)

    def verify(self, durable, begun):
        there = [side for side in "ab" if os.path.exists(self.path(side, "file"))]
        allowed = [["ab"[version % 2]] for version in range(durable, begun + 1)]
        assert there in allowed, "%s: the file is in %s, allowed %s" % (self.name, there, allowed)
        self.expect(self.path(there[0], "file"), content(self.name, 0) + b"moved")


class Swap(Slot):
    """Two files exchanged in one call."""

    def start(self):
        super().start()
        for index, side in enumerate("ab"):
            write(self.path(side), b"%d" % index + content(self.name, index))
        sync(self.at)

    def change(self, version):
        if libc.renameat2(-100, os.fsencode(self.path("a")), -100, os.fsencode(self.path("b")),
                          EXCHANGE):
            raise OSError(ctypes.get_errno(), "renameat2")
        sync(self.at)

    def verify(self, durable, begun):
        first = (read(self.path("a")) or b"")[:1]
        allowed = {b"%d" % (version % 2) for version in range(durable, begun + 1)}
        assert first in allowed, "%s: %r is at the first name" % (self.name, first)
        swapped = int(first)
        for index, side in enumerate("ab"):
            self.expect(self.path(side), b"%d" % (index ^ swapped)
                        + content(self.name, index ^ swapped))


class Append(Slot):
    """Records appended to a log, each synced."""

    def record(self, version):
        return b"%d:" % version + content(self.name, version)

    def start(self):
        super().start()
        write(self.path("log"), b"")
        sync(self.at)

    def change(self, version):
        write(self.path("log"), self.record(version), os.O_APPEND)

    def verify(self, durable, begun):
        kept = b"".join(self.record(version + 1) for version in range(durable))
        latest = kept + b"".join(self.record(version + 1) for version in range(durable, begun))
        found = read(self.path("log"))
        assert found is not None and found[:len(kept)] == kept and len(found) <= len(latest), \
            "%s: %d durable bytes expected, found %s: %s" % (
                self.name, len(kept), show(found), difference(kept, found))


class Remove(Slot):
    """A file made and synced, then removed and synced."""

    def change(self, version):
        if version % 2:
            write(self.path("file"), content(self.name, version))
        else:
            os.unlink(self.path("file"))
        sync(self.at)

    def verify(self, durable, begun):
        # What has begun may be half written.
        if begun > durable and (durable % 2 == 0 or begun > durable + 1):
            return
        made = content(self.name, durable) if durable % 2 else None
        found = read(self.path("file"))
        assert found == made or found is None and begun > durable, "%s: version %d, found %s" % (
            self.name, durable, show(found))


class Tree(Slot):
    """A directory made with its files and hard links under one name, then renamed to another."""

    def change(self, version):
        new = self.path("new")
        os.mkdir(new)
        for index in range(3):
            write(os.path.join(new, "file-%d" % index), content(self.name, version + index))
        os.link(os.path.join(new, "file-0"), os.path.join(new, "link"))
        sync(new)
        os.rename(new, self.path("tree-%d" % version))
        sync(self.at)

    def verify(self, durable, begun):
        names = set(os.listdir(self.at))
        wanted = {"tree-%d" % (version + 1) for version in range(durable)}
        rest = names - wanted
        assert wanted <= names, "%s: %s are lost" % (self.name, sorted(wanted - names)[:3])
        later = ["tree-%d" % (version + 1) for version in range(durable, begun)]
        made = len(rest - {"new"})
        assert rest - {"new"} == set(later[:made]), \
            "%s: %s besides what is durable" % (self.name, sorted(rest))
        for version in range(1, begun + 1):
            tree = self.path("tree-%d" % version)
            if os.path.basename(tree) in names:
                assert len(os.listdir(tree)) == 4, "%s holds %s" % (tree, os.listdir(tree))
                for index in range(3):
                    self.expect(os.path.join(tree, "file-%d" % index),
                                content(self.name, version + index))
                self.expect(os.path.join(tree, "link"), content(self.name, version))
                assert os.stat(os.path.join(tree, "link")).st_nlink == 2, tree


class Parts(Slot):
    """Parts of a large file that are written again in place, one after the other."""

    PART = 65_536
    COUNT = 24

    def part(self, version):
        """What version 1 and later write; version 0 has a part of its own everywhere."""
        seed = hashlib.sha256(("%s %d" % (self.name, version)).encode()).digest()
        return seed * (self.PART // len(seed))

    def start(self):
        super().start()
        write(self.path("file"), self.part(0) * self.COUNT)
        self.begin(os.open(self.path("file"), os.O_RDWR))
        sync(self.at)

    def begin(self, descriptor):
        self.descriptor = descriptor

    def change(self, version):
        os.pwrite(self.descriptor, self.part(version), version % self.COUNT * self.PART)
        os.fsync(self.descriptor)

    def verify(self, durable, begun):
        found = read(self.path("file"))
        assert found is not None and len(found) == self.COUNT * self.PART, \
            "%s: found %s" % (self.name, show(found))
        for index in range(self.COUNT):
            # Bytes that are written in place may be newer, and half of a write is no failure.
            if any(version % self.COUNT == index for version in range(durable + 1, begun + 1)):
                continue
            version = durable - (durable - index) % self.COUNT
            expected = self.part(max(version, 0))
            part = found[index * self.PART:(index + 1) * self.PART]
            assert part == expected, "%s: part %d of version %d has other bytes" % (
                self.name, index, max(version, 0))


class Map(Parts):
    """The same by stores to a mapping, each followed by msync."""

    PART = 4096

    def begin(self, descriptor):
        self.mapping = mmap.mmap(descriptor, 0)
        os.close(descriptor)

    def change(self, version):
        start = version % self.COUNT * self.PART
        self.mapping[start:start + self.PART] = self.part(version)
        self.mapping.flush(start, self.PART)


class Synchronous(Parts):
    """The same by writes that are durable when they return (O_SYNC), without an fsync."""

    PART = 4096

    def begin(self, descriptor):
        os.close(descriptor)
        self.descriptor = os.open(self.path("file"), os.O_WRONLY | os.O_SYNC)

    def change(self, version):
        os.pwrite(self.descriptor, self.part(version), version % self.COUNT * self.PART)


class Hole(Parts):
    """The same with holes punched and room allocated: what is not there reads as zeros."""

    PART = 16_384
    PUNCH = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE

    def part(self, version):
        return bytes(self.PART) if version % 3 == 0 and version else super().part(version)

    def change(self, version):
        start = version % self.COUNT * self.PART
        if version % 3:
            libc.fallocate(self.descriptor, 0, ctypes.c_long(start), ctypes.c_long(self.PART))
            os.pwrite(self.descriptor, self.part(version), start)
        elif libc.fallocate(self.descriptor, self.PUNCH, ctypes.c_long(start),
                            ctypes.c_long(self.PART)):
            raise OSError(ctypes.get_errno(), "fallocate")
        os.fsync(self.descriptor)


class Replace(Put):
    """A file that replaces another by rename without an fsync of its own: old or new, never half."""

    def data(self, version):
        return super().data(version) + bytes(200_000)

    def left_by(self, version):
        return self.data(version)

    def start(self):
        super().start()
        # Without something to replace, a file without an fsync may be empty after a power cut.
        write(self.path("file"), self.data(0))
        sync(self.at)

    def change(self, version):
        temporary = self.path("temporary-%d" % version)
        with open(temporary, "wb") as file:
            file.write(self.data(version))
        os.rename(temporary, self.path("file"))
        sync(self.at)


class Twin(Put):
    """Files of the same bytes, which are stored once when they are sealed, and changed again then."""

    def data(self, version):
        return hashlib.sha256(b"twin %d" % (version // 4)).digest() * 2000 + b"%d" % version

    def change(self, version):
        super().change(version)
        write(self.path("other"), self.data(version)[:-1], os.O_TRUNC)
        sync(self.at)

    def verify(self, durable, begun):
        super().verify(durable, begun)
        if begun == durable > 0:
            self.expect(self.path("other"), self.data(durable)[:-1])


class Cut(Slot):
    """A file that is cut and written anew, as docker-registry 2.8 does with each that it makes."""

    def data(self, version):
        return b"%d:" % version + content(self.name, version)

    def start(self):
        super().start()
        write(self.path("file"), self.data(0))
        sync(self.at)

    def change(self, version):
        write(self.path("file"), self.data(version), os.O_TRUNC)

    def verify(self, durable, begun):
        if begun == durable:
            self.expect(self.path("file"), self.data(durable))


KINDS = (Put, Move, Swap, Append, Remove, Tree, Parts, Synchronous, Hole, Replace, Twin, Cut)


def slots(kinds, top):
    return [kind(number, top) for kind in kinds for number in range(EACH)]


def run(top, journal, mapped=None):
    kinds = KINDS + (Map,) if mapped else KINDS
    problems = []
    lock = threading.Lock()
    file = open(journal, "w")

    def note(*line):
        with lock:
            file.write(json.dumps(line) + "\n")
            file.flush()

    def work(slot):
        version = 0
        try:
            while True:
                version += 1
                note("begun", slot.name, version)
                slot.change(version)
                note("durable", slot.name, version)
        except OSError as error:
            if error.errno not in DEAD:
                problems.append("%s, version %d: %s" % (slot.name, version, error))

    note("kinds", *[kind.__name__ for kind in kinds])
    os.mkdir(top)
    started = slots(kinds, top)
    for slot in started:
        slot.start()
    sync(top, os.path.dirname(top))
    note("ready")
    threads = [threading.Thread(target=work, args=(slot,)) for slot in started]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def lines(journal, byte_count=None):
    """The lines of a journal that are whole in its first bytes."""
    with open(journal, "rb") as file:
        whole = file.read(byte_count)
    return [json.loads(line) for line in whole[:whole.rfind(b"\n") + 1].splitlines()]


def verify(top, journal, before=None, after=None):
    durable, begun, problems, kinds = {}, {}, [], ()
    for event, *rest in lines(journal, before and int(before)):
        if event == "durable":
            durable[rest[0]] = rest[1]
        elif event == "kinds":
            kinds = [globals()[name] for name in rest]
    for event, *rest in lines(journal, after and int(after)):
        if event == "begun":
            begun[rest[0]] = rest[1]
    for slot in slots(kinds, top):
        try:
            slot.verify(durable.get(slot.name, 0), begun.get(slot.name, 0))
        except (AssertionError, OSError) as error:
            problems.append(str(error))
    print("%d durable changes" % sum(durable.values()))
    return problems


found = {"run": run, "verify": verify}[sys.argv[1]](*sys.argv[2:])
for problem in found:
    print(problem, file=sys.stderr)
sys.exit(1 if found else 0)
