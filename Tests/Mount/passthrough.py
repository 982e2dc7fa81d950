"""What files are that the kernel reads and writes itself, asked with real system calls: every mix
of handles, mappings and names.

    passthrough.py DIRECTORY [CASE...]    prints `ok NAME` or `not ok NAME: why` for each case
    passthrough.py writer FILE READY      writes and maps FILE until it is killed; makes READY first

Each case works in an empty directory of its own below DIRECTORY. Needs root. All pass on ext4 with
`user.ipfs.cid` left out, and without passthrough.
"""
import ctypes, errno, fcntl, hashlib, mmap, os, shutil, signal, stat, subprocess, sys, tempfile
import time, traceback, unittest

libc = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
SMALL, LARGE = 3000, 300_000
here = os.path.dirname(os.path.abspath(__file__))


def fresh(path, data=b"", flags=0):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o644)
    if data:
        os.write(fd, data)
    return fd


def read(path):
    with open(path, "rb") as file:
        return file.read()


def expected_cid(path):
    """By the importer of the other tests, from what can be read of the file."""
    return subprocess.check_output(
        [sys.executable, here + "/unixfs.py", "cid", "--profile", "v1", path], text=True).strip()


def told_cid(path):
    return os.getxattr(path, "user.ipfs.cid").decode()


def in_child(action):
    """Runs the action in a process of its own; gives the process."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def reap(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Passthrough(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.mkdtemp(dir=base)
        os.chmod(self.place, 0o777)
        os.chdir(self.place)

    def tearDown(self):
        os.chdir("/")
        shutil.rmtree(self.place)

    def check_cid(self, path):
        self.assertEqual(told_cid(path), expected_cid(path))

    def test_several_handles_see_each_others_writes(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                path = "f%d" % size
                data = bytearray(os.urandom(size))
                one = fresh(path, data)
                two, reader = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)
                os.pwrite(two, b"two", 1)
                os.pwrite(one, b"one", size - 5)
                data[1:4], data[size - 5:size - 2] = b"two", b"one"
                self.assertEqual(os.pread(reader, size + 1, 0), data)
                os.close(one)
                os.pwrite(two, b"end", size)
                self.assertEqual(os.fstat(reader).st_size, size + 3)
                self.assertEqual(os.stat(path).st_size, size + 3)
                self.assertEqual(os.pread(reader, 10, size), b"end")
                self.check_cid(path)
                os.close(two)
                os.close(reader)
                self.check_cid(path)

    def test_reader_of_a_sealed_file_sees_a_later_writer(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                path = "f%d" % size
                data = bytearray(os.urandom(size))
                os.close(fresh(path, data))
                before = told_cid(path)
                reader = os.open(path, os.O_RDONLY)
                self.assertEqual(os.pread(reader, size, 0), data)
                writer = os.open(path, os.O_WRONLY)
                os.pwrite(writer, b"changed", 100)
                data[100:107] = b"changed"
                self.assertEqual(os.pread(reader, size, 0), data)
                self.assertNotEqual(told_cid(path), before)
                os.close(writer)
                self.assertEqual(os.pread(reader, size, 0), data)
                os.close(reader)
                self.check_cid(path)

    def test_shared_content_is_left_to_the_other_file(self):
        data = os.urandom(LARGE)
        for name in ("one", "other"):
            os.close(fresh(name, data))
            cid = told_cid(name)
        readers = [os.open(name, os.O_RDONLY) for name in ("one", "other")]
        mapping = mmap.mmap(readers[1], LARGE, mmap.MAP_SHARED, mmap.PROT_READ)
        for reader in readers:
            self.assertEqual(os.pread(reader, LARGE, 0), data)
        writer = os.open("one", os.O_RDWR)
        os.pwrite(writer, b"changed", 200_000)
        changed = data[:200_000] + b"changed" + data[200_007:]
        self.assertEqual(os.pread(readers[0], LARGE, 0), changed)
        self.assertEqual(os.pread(readers[1], LARGE, 0), data)
        self.assertEqual(mapping[:], data)
        self.check_cid("one")
        self.assertEqual(told_cid("other"), cid)
        other = os.open("other", os.O_RDWR)
        os.pwrite(other, b"too", 0)
        self.assertEqual(os.pread(readers[0], LARGE, 0), changed)
        self.assertEqual(os.pread(readers[1], LARGE, 0), b"too" + data[3:])
        self.assertEqual(mapping[:3], b"too")
        mapping.close()
        for fd in readers + [writer, other]:
            os.close(fd)
        self.check_cid("one")
        self.check_cid("other")

    def test_links_are_one_file(self):
        fd = fresh("file", b"x" * LARGE)
        os.link("file", "link")
        linked = os.open("link", os.O_RDWR)
        os.pwrite(linked, b"link", 0)
        self.assertEqual(os.pread(fd, 5, 0), b"linkx")
        os.unlink("file")
        os.pwrite(fd, b"file", 0)
        self.assertEqual(os.pread(linked, 5, 0), b"filex")
        os.close(fd)
        os.close(linked)
        self.assertEqual(read("link"), b"file" + b"x" * (LARGE - 4))

    def test_shared_mapping_outlives_its_descriptor(self):
        for size in (SMALL, LARGE):
            for unlinks in (False, True):
                with self.subTest(size=size, unlinks=unlinks):
                    data = bytearray(os.urandom(size))
                    fd = fresh("file", data)
                    # Python would keep a descriptor of its own.
                    libc.mmap.restype = ctypes.c_void_p
                    at = libc.mmap(None, ctypes.c_size_t(size), 3, 1, fd, ctypes.c_long(0))
                    mapped = (ctypes.c_char * size).from_address(at)
                    if unlinks:
                        os.unlink("file")
                    os.close(fd)
                    for index in range(80):
                        os.close(fresh("small%d" % index, b"small"))
                    mapped[0:6] = b"mapped"
                    data[0:6] = b"mapped"
                    if not unlinks:
                        self.assertEqual(read("file"), data)
                    mapped[10:15] = b"again"
                    data[10:15] = b"again"
                    self.assertEqual(mapped[:], data)
                    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(size))
                    for index in range(80):
                        self.assertEqual(read("small%d" % index), b"small")
                        os.unlink("small%d" % index)
                    if not unlinks:
                        self.assertEqual(read("file"), data)
                        self.check_cid("file")
                        os.unlink("file")

    def test_two_processes_share_a_mapping(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                path = "f%d" % size
                os.close(fresh(path, bytes(size)))

                def child():
                    fd = os.open(path, os.O_RDWR)
                    view = mmap.mmap(fd, size)
                    os.close(fd)
                    end = time.monotonic() + 120
                    while view[0] != 1:
                        assert time.monotonic() < end
                        time.sleep(0.001)
                    view[1] = 2
                    view.flush()

                pid = in_child(child)
                fd = os.open(path, os.O_RDWR)
                view = mmap.mmap(fd, size)
                view[0] = 1
                self.assertEqual(reap(pid), 0)
                self.assertEqual(view[1], 2)
                # What is stored and what is written are the same bytes.
                os.pwrite(fd, b"\x03", 2)
                self.assertEqual(view[2], 3)
                view[3] = 4
                self.assertEqual(os.pread(fd, 4, 0), b"\1\2\3\4")
                view.flush()
                os.fsync(fd)
                view.close()
                os.close(fd)
                self.assertEqual(read(path)[:4], b"\1\2\3\4")
                self.check_cid(path)

    def test_private_mapping_and_reads_of_a_sealed_file(self):
        data = os.urandom(LARGE)
        os.close(fresh("file", data))
        self.check_cid("file")
        fd = os.open("file", os.O_RDONLY)
        view = mmap.mmap(fd, LARGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        view[0] = data[0] ^ 1
        self.assertEqual(view[1:], data[1:])
        self.assertEqual(os.pread(fd, LARGE, 0), data)
        view.close()
        os.close(fd)

    def test_direct_reads_and_writes(self):
        fd = fresh("file", flags=os.O_DIRECT)
        page = mmap.mmap(-1, 8192)
        page[:] = os.urandom(8192)
        self.assertEqual(os.pwritev(fd, [page], 4096), 8192)
        back = mmap.mmap(-1, 8192)
        self.assertEqual(os.preadv(fd, [back], 4096), 8192)
        self.assertEqual(back[:], page[:])
        plain = os.open("file", os.O_RDWR)
        os.pwrite(plain, b"plain", 4096)
        self.assertEqual(os.preadv(fd, [back], 4096), 8192)
        self.assertEqual(back[:], b"plain" + page[5:])
        os.close(fd)
        os.close(plain)
        self.assertEqual(read("file"), bytes(4096) + back[:])
        self.check_cid("file")

    def test_synchronous_writes(self):
        for flag in (os.O_SYNC, os.O_DSYNC):
            for size in (SMALL, LARGE):
                with self.subTest(flag=flag, size=size):
                    fd = fresh("file", flags=flag)
                    plain = os.open("file", os.O_RDWR)
                    data = os.urandom(size)
                    self.assertEqual(os.write(fd, data), size)
                    os.pwrite(plain, b"plain", 3)
                    self.assertEqual(os.pread(fd, size, 0), data[:3] + b"plain" + data[8:])
                    view = mmap.mmap(fd, size)
                    self.assertEqual(view[3:8], b"plain")
                    view[0] = 7
                    self.assertEqual(os.pread(fd, 1, 0), b"\x07")
                    self.assertEqual(os.pread(plain, 1, 0), b"\x07")
                    view.close()
                    os.close(fd)
                    os.close(plain)
                    self.check_cid("file")
                    os.unlink("file")

    def test_appends_of_two_processes_are_all_there(self):
        for flag in (0, os.O_DSYNC):
            with self.subTest(flag=flag):
                count = 50 if flag else 1000
                os.close(fresh("file"))

                def child(letter):
                    fd = os.open("file", os.O_WRONLY | os.O_APPEND | flag)
                    for index in range(count):
                        os.write(fd, b"%c%07d" % (letter, index) + letter * 90 + b"\n")

                children = [in_child(lambda: child(letter)) for letter in (b"a", b"b")]
                self.assertEqual([reap(pid) for pid in children], [0, 0])
                lines = read("file").split(b"\n")
                self.assertEqual(len(lines), 2 * count + 1)
                for letter in (b"a", b"b"):
                    self.assertEqual(
                        [line for line in lines if line[:1] == letter],
                        [b"%c%07d" % (letter, index) + letter * 90 for index in range(count)])
                self.check_cid("file")
                os.unlink("file")

    def test_open_file_is_cut_and_grown(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                data = os.urandom(size)
                fd = fresh("file", data)
                reader = os.open("file", os.O_RDONLY)
                os.truncate("file", 100)
                self.assertEqual(os.pread(reader, size, 0), data[:100])
                os.ftruncate(fd, size)
                self.assertEqual(os.pread(reader, size, 0), data[:100] + bytes(size - 100))
                os.close(os.open("file", os.O_WRONLY | os.O_TRUNC))
                self.assertEqual(os.pread(reader, size, 0), b"")
                self.assertEqual(os.fstat(fd).st_size, 0)
                os.pwrite(fd, b"after", 10)
                self.assertEqual(os.pread(reader, size, 0), bytes(10) + b"after")
                os.close(fd)
                os.close(reader)
                self.check_cid("file")
                os.unlink("file")

    def test_unlinked_open_file_reads_and_can_be_opened_again(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                data = os.urandom(size)
                fd = fresh("file", data)
                place = os.open("file", os.O_PATH)
                os.unlink("file")
                os.pwrite(fd, b"new", 0)
                self.assertEqual(os.pread(fd, size, 0), b"new" + data[3:])
                os.close(fd)
                again = os.open("/proc/self/fd/%d" % place, os.O_RDWR)
                self.assertEqual(os.pread(again, size, 0), b"new" + data[3:])
                self.assertEqual(os.fstat(again).st_nlink, 0)
                os.close(again)
                os.close(place)

    def test_file_that_is_renamed_over_stays_readable(self):
        data = os.urandom(LARGE)
        old, new = fresh("file", data), fresh("new", b"new")
        os.rename("new", "file")
        os.pwrite(old, b"old", 0)
        os.pwrite(new, b"more", 3)
        self.assertEqual(os.pread(old, LARGE, 0), b"old" + data[3:])
        self.assertEqual(read("file"), b"newmore")
        os.close(old)
        os.close(new)
        self.check_cid("file")

    def test_programs_run_and_refuse_writers_and_the_other_way_round(self):
        shutil.copy("/bin/sleep", "program")
        self.check_cid("program")
        child = subprocess.Popen(["./program", "600"])
        try:
            end = time.monotonic() + 60
            while os.readlink("/proc/%d/exe" % child.pid) != os.path.realpath("program"):
                self.assertLess(time.monotonic(), end)
            with self.assertRaises(OSError) as caught:
                os.open("program", os.O_WRONLY)
            self.assertEqual(caught.exception.errno, errno.ETXTBSY)
            self.assertEqual(read("program"), read("/bin/sleep"))
        finally:
            child.kill()
            child.wait()
        fd = os.open("program", os.O_WRONLY)
        with self.assertRaises(OSError) as caught:
            subprocess.run(["./program", "0"])
        self.assertEqual(caught.exception.errno, errno.ETXTBSY)
        os.close(fd)
        self.assertEqual(subprocess.run(["./program", "0"]).returncode, 0)

    def test_sendfile_splice_and_copy_file_range(self):
        data = os.urandom(LARGE)
        source = fresh("source", data)
        sent = fresh("sent")
        self.assertEqual(os.sendfile(sent, source, 0, LARGE), LARGE)
        self.assertEqual(os.pread(sent, LARGE, 0), data)
        spliced = fresh("spliced")
        reading, writing = os.pipe()
        done = 0
        while done < LARGE:
            count = os.splice(source, writing, 32768, offset_src=done)
            left = count
            while left:
                left -= os.splice(reading, spliced, left, offset_dst=done + count - left)
            done += count
        self.assertEqual(os.pread(spliced, LARGE, 0), data)
        copied = fresh("copied", b"head")
        done = 0
        while done < LARGE:
            done += os.copy_file_range(source, copied, LARGE - done, done, 4 + done)
        self.assertEqual(os.pread(copied, LARGE + 9, 0), b"head" + data)
        for fd in (source, sent, spliced, copied, reading, writing):
            os.close(fd)
        for name in ("source", "sent", "spliced", "copied"):
            self.check_cid(name)

    def test_writes_of_others_than_root_clear_set_id_bits(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                os.close(fresh("file", os.urandom(size)))
                os.chown("file", NOBODY, NOBODY)
                os.chmod("file", 0o6777)

                def child():
                    os.setresgid(NOBODY, NOBODY, NOBODY)
                    os.setresuid(NOBODY, NOBODY, NOBODY)
                    fd = os.open("file", os.O_RDWR)
                    os.pwrite(fd, b"x", 0)
                    assert os.fstat(fd).st_mode & 0o7777 == 0o777, oct(os.fstat(fd).st_mode)
                    os.pwrite(fd, b"y", 1)
                    os.close(fd)

                reader = os.open("file", os.O_RDONLY)
                self.assertEqual(reap(in_child(child)), 0)
                self.assertEqual(os.stat("file").st_mode & 0o7777, 0o777)
                self.assertEqual(os.pread(reader, 2, 0), b"xy")
                os.close(reader)
                os.unlink("file")

    def test_writes_through_a_handle_from_before_clear_set_id_bits(self):
        fd = fresh("file", os.urandom(LARGE))
        os.fchown(fd, NOBODY, NOBODY)
        os.fchmod(fd, 0o6777)

        def child():
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.pwrite(fd, b"x", 0)

        self.assertEqual(reap(in_child(child)), 0)
        self.assertEqual(os.stat("file").st_mode & 0o7777, 0o777)
        os.close(fd)
        self.assertEqual(os.stat("file").st_mode & 0o7777, 0o777)

    def test_access_times_follow_relatime(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                os.close(fresh("file", os.urandom(size)))
                long_ago = 1_000_000_000 * 10 ** 9
                os.utime("file", ns=(long_ago, long_ago + 10 ** 9))
                before = time.time_ns()
                read("file")
                moved = os.stat("file").st_atime_ns
                self.assertGreater(moved, before - 10 ** 9)
                self.assertEqual(os.stat("file").st_mtime_ns, long_ago + 10 ** 9)
                time.sleep(0.02)
                read("file")
                self.assertEqual(os.stat("file").st_atime_ns, moved)
                os.unlink("file")

    def test_modification_time_follows_writes_and_utimens(self):
        for size in (SMALL, LARGE):
            with self.subTest(size=size):
                fd = fresh("file", os.urandom(size))
                first = os.fstat(fd).st_mtime_ns
                time.sleep(0.02)
                os.pwrite(fd, b"x", 0)
                second = os.stat("file")
                self.assertGreater(second.st_mtime_ns, first)
                self.assertGreaterEqual(second.st_ctime_ns, second.st_mtime_ns)
                long_ago = 1_000_000_000 * 10 ** 9 + 1
                os.utime("file", ns=(long_ago, long_ago))
                self.assertEqual(os.fstat(fd).st_mtime_ns, long_ago)
                changed = os.fstat(fd).st_ctime_ns
                self.assertGreater(changed, second.st_mtime_ns)
                time.sleep(0.02)
                os.pwrite(fd, b"y", 1)
                third = os.stat("file").st_mtime_ns
                self.assertGreater(third, second.st_mtime_ns)
                os.utime("file", ns=(long_ago, long_ago))
                os.close(fd)
                self.assertEqual(os.stat("file").st_mtime_ns, long_ago)
                time.sleep(0.3)
                self.assertEqual(os.stat("file").st_mtime_ns, long_ago)
                os.unlink("file")

    def test_blocks_are_those_of_sparse_files(self):
        fd = fresh("file")
        os.pwrite(fd, b"x" * 4096, 1 << 30)
        os.fsync(fd)
        self.assertEqual(os.stat("file").st_size, (1 << 30) + 4096)
        self.assertLess(os.stat("file").st_blocks, 200)
        self.assertGreaterEqual(os.stat("file").st_blocks, 8)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 1 << 30)
        os.pwrite(fd, b"x" * (1 << 20), 0)
        os.fsync(fd)
        self.assertGreaterEqual(os.stat("file").st_blocks, 2048)
        # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        libc.fallocate(fd, 3, ctypes.c_int64(0), ctypes.c_int64(1 << 20))
        os.fsync(fd)
        self.assertLess(os.stat("file").st_blocks, 200)
        self.assertEqual(os.pread(fd, 10, 0), bytes(10))
        os.ftruncate(fd, 0)
        os.close(fd)
        self.assertEqual(os.stat("file").st_blocks, 0)

    def test_locks_and_leases_are_the_files_own(self):
        fd = fresh("file", b"x" * LARGE)
        other = os.open("file", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with self.assertRaises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)

    def test_cid_follows_a_file_that_is_being_written(self):
        fd = fresh("file")
        for round in range(5):
            os.write(fd, os.urandom(100_000))
            self.check_cid("file")
        os.close(fd)
        self.check_cid("file")


class Report(unittest.TestResult):
    @staticmethod
    def name(case):
        return case.id().split(".test_")[-1].replace("_", " ")

    def report(self, case, problem):
        lines = traceback.extract_tb(problem[2])
        mine = [line for line in lines if line.filename == __file__]
        reason = " ".join(str(problem[1]).split())[:300]
        self.broken = "%s: %s (line %d)" % (
            problem[0].__name__, reason, mine[-1].lineno if mine else 0)

    def startTest(self, case):
        super().startTest(case)
        self.broken = None

    def stopTest(self, case):
        super().stopTest(case)
        if self.broken:
            print("not ok %s: %s" % (self.name(case), self.broken), flush=True)
        else:
            print("ok", self.name(case), flush=True)

    def addFailure(self, case, problem):
        super().addFailure(case, problem)
        self.report(case, problem)

    def addError(self, case, problem):
        super().addError(case, problem)
        self.report(case, problem)

    def addSubTest(self, case, part, problem):
        super().addSubTest(case, part, problem)
        if problem:
            self.report(case, problem)


def write_until_killed(path, ready):
    fd = os.open(path, os.O_RDWR)
    view = mmap.mmap(fd, 100_000)
    count = 0
    while True:
        count += 1
        mark = b"%08d" % (count % 10 ** 8)
        os.pwrite(fd, mark * 1000, 50_000)
        view[0:8] = mark
        if count == 100:
            os.close(os.open(ready, os.O_WRONLY | os.O_CREAT, 0o600))


if sys.argv[1] == "writer":
    write_until_killed(sys.argv[2], sys.argv[3])
base = os.path.abspath(sys.argv[1])
suite = unittest.defaultTestLoader.loadTestsFromTestCase(Passthrough)
if len(sys.argv) > 2:
    suite = unittest.TestSuite(case for case in suite if any(part in case.id() for part in sys.argv[2:]))
outcome = Report()
suite.run(outcome)
sys.exit(0 if outcome.wasSuccessful() and outcome.testsRun else 1)
