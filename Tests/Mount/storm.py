"""A storm of changes that knows what must still be there when the filesystem dies in the middle.

    storm.py run DIRECTORY JOURNAL       changes a new tree until the filesystem is gone
    storm.py verify DIRECTORY JOURNAL    says what in the tree the journal does not allow

The journal stands outside of the filesystem under test. Each slot goes through versions 0, 1, 2...;
before a change the journal says which version begins, and after its fsync that it is durable. After
a crash a slot is in the last durable version, or in the one begun after it: nothing else, nothing
between. Each slot has a thread, so that syncs of several overlap.
"""
import ctypes, errno, hashlib, json, os, sys, threading

EACH = 3
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

    def verify(self, durable, begun):
        temporary = self.path("temporary-%d" % begun)
        data = {version: self.data(version) if version else None
                for version in (durable, begun)}
        found = read(self.path("file"))
        assert found in data.values(), "%s: versions %d or %d expected, found %s" % (
            self.name, durable, begun, show(found))
        if begun > durable and found == data[begun]:
            assert not os.path.exists(temporary), "%s: both names of a rename are there" % self.name


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
        allowed = [["ab"[version % 2]] for version in (durable, begun)]
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
        allowed = {b"%d" % (version % 2) for version in (durable, begun)}
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
        latest = kept + (self.record(begun) if begun > durable else b"")
        found = read(self.path("log"))
        assert found is not None and found[:len(kept)] == kept and len(found) <= len(latest), \
            "%s: %d durable bytes expected, found %s" % (self.name, len(kept), show(found))


class Remove(Slot):
    """A file made and synced, then removed and synced."""

    def change(self, version):
        if version % 2:
            write(self.path("file"), content(self.name, version))
        else:
            os.unlink(self.path("file"))
        sync(self.at)

    def verify(self, durable, begun):
        found = read(self.path("file"))
        made = content(self.name, durable)
        if durable % 2:
            allowed = [made] if begun == durable else [made, None]
            assert found in allowed, "%s: version %d, found %s" % (
                self.name, durable, show(found))
        elif begun == durable:
            assert found is None, "%s: the removed file is back" % self.name


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
        assert rest in (set(), {"new"}, {"tree-%d" % begun} - wanted), \
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


def slots(top):
    return [kind(number, top) for kind in (Put, Move, Swap, Append, Remove, Tree)
            for number in range(EACH)]


def run(top, journal):
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

    os.mkdir(top)
    for slot in slots(top):
        slot.start()
    sync(top, os.path.dirname(top))
    note("ready")
    threads = [threading.Thread(target=work, args=(slot,)) for slot in slots(top)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def verify(top, journal):
    durable, begun, problems = {}, {}, []
    for line in open(journal):
        event, *rest = json.loads(line)
        if event != "ready":
            (durable if event == "durable" else begun)[rest[0]] = rest[1]
    for slot in slots(top):
        try:
            slot.verify(durable.get(slot.name, 0), begun.get(slot.name, 0))
        except (AssertionError, OSError) as error:
            problems.append(str(error))
    print("%d durable changes" % sum(durable.values()))
    return problems


found = {"run": run, "verify": verify}[sys.argv[1]](*sys.argv[2:4])
for problem in found:
    print(problem, file=sys.stderr)
sys.exit(1 if found else 0)
