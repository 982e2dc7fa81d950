"""What POSIX and Linux promise of a local filesystem, asked with real system calls.

    posix.py DIRECTORY [CASE...]     prints `ok NAME` or `not ok NAME: why` for each case

Each case works in an empty directory of its own below DIRECTORY. Needs root: some cases make
device nodes, and some ask what another user may do. All pass on ext4.
"""
import ctypes, errno, fcntl, mmap, os, shutil, signal, socket, stat, struct, subprocess
import sys, tempfile, time, traceback, unittest

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
MiB, GiB = 1 << 20, 1 << 30
NOBODY, OTHER = 65534, 65533
QUICK = bool(os.environ.get("REGISTRYFS_TEST_QUICK"))


def call(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result


def renameat2(old, new, flags):
    call("renameat2", -100, os.fsencode(old), -100, os.fsencode(new), flags)


def fallocate(fd, mode, offset, length):
    call("fallocate", fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))


def link_descriptor(fd, name):
    """open(2) on O_TMPFILE: linkat with AT_SYMLINK_FOLLOW; Python's own os.link does not follow."""
    call("linkat", -100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(name), 0x400)


def write(path, data=b"", mode=0o644):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def as_user(user, action, groups=()):
    """Runs the action in a child with that uid and gid; its exception's errno is the result."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            os.setgroups(list(groups))
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            action()
            code = 0
        except OSError as error:
            code = error.errno
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Posix(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.mkdtemp(dir=base)
        os.chmod(self.home, 0o777)
        os.chdir(self.home)
        os.umask(0o022)

    def tearDown(self):
        os.chdir("/")
        shutil.rmtree(self.home)

    def refused(self, number, action, *arguments, **named):
        with self.assertRaises(OSError) as caught:
            action(*arguments, **named)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[number])

    # Open flags

    def test_append_goes_to_the_end_from_two_processes_at_once(self):
        def appender(letter):
            fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            for _ in range(500):
                os.write(fd, letter * 100 + b"\n")
            os._exit(0)
        children = []
        for letter in (b"a", b"b"):
            pid = os.fork()
            if pid == 0:
                appender(letter)
            children.append(pid)
        for pid in children:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        lines = read("log").splitlines()
        self.assertEqual(lines.count(b"a" * 100), 500)
        self.assertEqual(lines.count(b"b" * 100), 500)
        self.assertEqual(len(lines), 1000)

    def test_append_ignores_the_file_offset(self):
        write("f", b"12345")
        fd = os.open("f", os.O_RDWR | os.O_APPEND)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"67")
        self.assertEqual(os.lseek(fd, 0, os.SEEK_CUR), 7)
        os.close(fd)
        self.assertEqual(read("f"), b"1234567")

    def test_exclusive_create_refuses_what_exists(self):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        os.close(os.open("f", flags))
        self.refused(errno.EEXIST, os.open, "f", flags)
        os.symlink("nowhere", "dangling")
        self.refused(errno.EEXIST, os.open, "dangling", flags)
        self.assertFalse(os.path.exists("nowhere"))

    def test_truncating_open_empties_the_file_for_who_has_it_open(self):
        write("f", b"x" * 5000)
        fd = os.open("f", os.O_RDONLY)
        os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
        self.assertEqual(os.fstat(fd).st_size, 0)
        self.assertEqual(os.read(fd, 10), b"")
        os.close(fd)

    def test_unnamed_file_can_be_given_a_name_later(self):
        fd = os.open(".", os.O_RDWR | os.O_TMPFILE, 0o640)
        self.assertEqual(os.listdir("."), [])
        self.assertEqual(os.fstat(fd).st_nlink, 0)
        os.write(fd, b"secret" * 1000)
        link_descriptor(fd, "named")
        self.assertEqual(os.fstat(fd).st_nlink, 1)
        os.close(fd)
        self.assertEqual(read("named"), b"secret" * 1000)
        self.assertEqual(stat.S_IMODE(os.stat("named").st_mode), 0o640)

    def test_exclusive_unnamed_file_cannot_be_given_a_name(self):
        fd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_EXCL, 0o640)
        self.refused(errno.ENOENT, link_descriptor, fd, "named")
        os.close(fd)

    def test_directory_and_nofollow_flags(self):
        write("f")
        os.symlink("f", "link")
        self.refused(errno.ENOTDIR, os.open, "f", os.O_RDONLY | os.O_DIRECTORY)
        self.refused(errno.ELOOP, os.open, "link", os.O_RDONLY | os.O_NOFOLLOW)
        self.refused(errno.EISDIR, os.open, ".", os.O_WRONLY)

    def test_direct_io_reads_what_was_written(self):
        buffer = mmap.mmap(-1, 65536)
        buffer.write(os.urandom(65536))
        try:
            fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
        except OSError as error:
            self.assertEqual(error.errno, errno.EINVAL)  # a filesystem may have no direct I/O
            return
        os.pwritev(fd, [buffer], 0)
        back = mmap.mmap(-1, 65536)
        self.assertEqual(os.preadv(fd, [back], 0), 65536)
        os.close(fd)
        self.assertEqual(back[:], buffer[:])
        self.assertEqual(read("f"), buffer[:])

    # Names and links

    def test_unlinked_open_file_stays_readable_and_writable(self):
        fd = os.open("f", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"before")
        os.unlink("f")
        self.refused(errno.ENOENT, os.stat, "f")
        self.assertEqual(os.fstat(fd).st_nlink, 0)
        os.write(fd, b" after")
        os.fsync(fd)
        self.assertEqual(os.pread(fd, 100, 0), b"before after")
        os.ftruncate(fd, 3)
        os.fchmod(fd, 0o600)
        self.assertEqual(os.fstat(fd).st_size, 3)
        other = os.open("/proc/self/fd/%d" % fd, os.O_RDONLY)
        self.assertEqual(os.read(other, 100), b"bef")
        os.close(other)
        os.close(fd)

    def test_removed_directory_that_is_open_is_empty(self):
        os.mkdir("d")
        fd = os.open("d", os.O_RDONLY)
        os.rmdir("d")
        self.assertEqual(os.listdir(fd), [])
        self.refused(errno.ENOENT, os.open, "f", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        os.close(fd)

    def test_hard_links_are_one_file(self):
        write("a", b"one")
        os.link("a", "b")
        os.mkdir("d")
        os.link("a", "d/c")
        self.assertEqual(os.stat("a").st_nlink, 3)
        self.assertEqual(os.stat("a").st_ino, os.stat("d/c").st_ino)
        with open("b", "ab") as file:
            file.write(b" two")
        self.assertEqual(read("d/c"), b"one two")
        os.chmod("d/c", 0o600)
        self.assertEqual(stat.S_IMODE(os.stat("a").st_mode), 0o600)
        os.unlink("a")
        os.unlink("b")
        self.assertEqual(os.stat("d/c").st_nlink, 1)
        self.assertEqual(read("d/c"), b"one two")
        self.refused(errno.EPERM, os.link, "d", "e")
        self.refused(errno.EEXIST, os.link, "d/c", "d/c")
        os.symlink("d/c", "s")
        os.link("s", "t", follow_symlinks=False)
        self.assertEqual(os.readlink("t"), "d/c")
        self.assertEqual(os.lstat("s").st_nlink, 2)

    def test_rename_replaces_and_keeps_the_replaced_file_readable(self):
        write("old", b"old")
        write("new", b"new")
        fd = os.open("old", os.O_RDONLY)
        inode = os.stat("new").st_ino
        os.rename("new", "old")
        self.assertEqual(os.listdir("."), ["old"])
        self.assertEqual(os.stat("old").st_ino, inode)
        self.assertEqual(read("old"), b"new")
        self.assertEqual(os.read(fd, 9), b"old")
        self.assertEqual(os.fstat(fd).st_nlink, 0)
        os.close(fd)

    def test_rename_without_replacing(self):
        write("a", b"a")
        write("b", b"b")
        with self.assertRaises(OSError) as caught:
            renameat2("a", "b", NOREPLACE)
        self.assertEqual(caught.exception.errno, errno.EEXIST)
        renameat2("a", "c", NOREPLACE)
        self.assertEqual(sorted(os.listdir(".")), ["b", "c"])
        self.assertEqual(read("c"), b"a")

    def test_rename_exchanges_a_file_and_a_directory(self):
        os.makedirs("x/inside")
        os.mkdir("y")
        write("y/f", b"f")
        renameat2("x", "y/f", EXCHANGE)
        self.assertEqual(read("x"), b"f")
        self.assertEqual(os.listdir("y/f"), ["inside"])
        self.assertEqual(os.stat(".").st_nlink, 3)
        self.assertEqual(os.stat("y").st_nlink, 3)
        with self.assertRaises(OSError) as caught:
            renameat2("x", "nothing", EXCHANGE)
        self.assertEqual(caught.exception.errno, errno.ENOENT)

    def test_rename_leaves_a_whiteout(self):
        write("a", b"a")
        write("b", b"b")
        renameat2("a", "b", WHITEOUT)
        self.assertEqual(read("b"), b"a")
        status = os.lstat("a")
        self.assertEqual((status.st_mode, status.st_rdev), (stat.S_IFCHR, 0))
        with self.assertRaises(OSError) as caught:
            renameat2("b", "a", WHITEOUT | EXCHANGE)
        self.assertEqual(caught.exception.errno, errno.EINVAL)
        with self.assertRaises(OSError) as caught:
            renameat2("b", "a", WHITEOUT | NOREPLACE)
        self.assertEqual(caught.exception.errno, errno.EEXIST)
        os.mkdir("d")
        os.mkdir("e")
        renameat2("d", "e/d", WHITEOUT | NOREPLACE)
        self.assertTrue(stat.S_ISCHR(os.lstat("d").st_mode))
        self.assertEqual((os.stat(".").st_nlink, os.stat("e").st_nlink), (3, 3))
        os.unlink("a")
        os.unlink("d")
        self.assertEqual(sorted(os.listdir(".")), ["b", "e"])

    def test_rename_of_two_links_to_one_file_does_nothing(self):
        write("a")
        os.link("a", "b")
        os.rename("a", "b")
        self.assertEqual(sorted(os.listdir(".")), ["a", "b"])

    def test_rename_refuses_what_cannot_be(self):
        os.makedirs("a/b/c")
        os.makedirs("full/x")
        os.mkdir("empty")
        write("f")
        self.refused(errno.EINVAL, os.rename, "a", "a/b/c/d")
        self.refused(errno.ENOTEMPTY, os.rename, "empty", "full")
        self.refused(errno.EISDIR, os.rename, "f", "empty")
        self.refused(errno.ENOTDIR, os.rename, "empty", "f")
        self.refused(errno.ENOENT, os.rename, "nothing", "g")
        os.rename("full", "empty")
        self.assertEqual(os.listdir("empty"), ["x"])

    def test_rename_of_a_directory_moves_its_tree_and_its_dotdot(self):
        os.makedirs("a/b")
        os.mkdir("c")
        write("a/b/f", b"here")
        os.rename("a/b", "c/d")
        self.assertEqual(read("c/d/f"), b"here")
        self.assertEqual(os.stat("c/d/..").st_ino, os.stat("c").st_ino)
        self.assertEqual((os.stat("a").st_nlink, os.stat("c").st_nlink), (2, 3))

    def test_rmdir_and_unlink_refuse_the_wrong_kind(self):
        os.makedirs("d/e")
        write("f")
        self.refused(errno.ENOTEMPTY, os.rmdir, "d")
        self.refused(errno.ENOTDIR, os.rmdir, "f")
        self.refused(errno.EISDIR, os.unlink, "d")
        self.refused(errno.EEXIST, os.mkdir, "f")
        self.refused(errno.ENOTDIR, os.stat, "f/below")

    def test_names_of_255_bytes_and_of_any_bytes(self):
        names = [b"n" * 255, b"\xff\xfe\x80", "ü€\U0001f600".encode(), b"new\nline", b" ", b"-",
                 b"..." , b"a" * 254 + b"\xc3", bytes(range(1, 47)) + bytes(range(48, 256))]
        for index, name in enumerate(names):
            write(name, b"%d" % index)
        self.assertEqual(sorted(os.listdir(b".")), sorted(names))
        for index, name in enumerate(names):
            self.assertEqual(read(name), b"%d" % index)
        os.rename(names[1], b"\x80\x81")
        self.assertEqual(read(b"\x80\x81"), b"1")
        self.refused(errno.ENAMETOOLONG, write, b"n" * 256)
        self.refused(errno.ENAMETOOLONG, os.mkdir, b"n" * 256)
        self.refused(errno.ENAMETOOLONG, os.stat, b"n" * 256)

    def test_names_differ_by_case_and_by_normal_form(self):
        for name in ("a", "A", "\u00e9", "e\u0301"):
            write(name, name.encode())
        self.assertEqual(len(os.listdir(".")), 4)
        for name in ("a", "A", "\u00e9", "e\u0301"):
            self.assertEqual(read(name), name.encode())

    def test_paths_up_to_path_max_and_trees_beyond_it(self):
        name = "d" * 200
        for _ in range(30):  # 6,000 bytes deep in the end
            os.mkdir(name)
            os.chdir(name)
        write("bottom", b"deep")
        self.assertEqual(read("bottom"), b"deep")
        os.chdir(self.home)
        room = 4095 - len("/bottom") - len(os.fsencode(self.home))
        longest = self.home
        while room > 201:
            longest += "/" + name
            room -= 201
        write(longest + "/" + "x" * (room + len("/bottom") - 1), b"longest")
        self.refused(errno.ENAMETOOLONG, os.stat, longest + "/" + "x" * (room + len("/bottom")))

    def test_symlinks(self):
        os.symlink("t" * 4095, "long")
        self.assertEqual(os.readlink("long"), "t" * 4095)
        self.assertEqual(os.lstat("long").st_size, 4095)
        self.assertTrue(stat.S_ISLNK(os.lstat("long").st_mode))
        self.refused(errno.ENAMETOOLONG, os.symlink, "t" * 4096, "longer")
        os.symlink("loop", "loop")
        self.refused(errno.ELOOP, os.stat, "loop")
        os.symlink(b"\xff\x80", b"bytes")
        self.assertEqual(os.readlink(b"bytes"), b"\xff\x80")
        self.refused(errno.EINVAL, os.readlink, ".")
        os.lchown("bytes", NOBODY, NOBODY)
        self.assertEqual(os.lstat("bytes").st_uid, NOBODY)
        os.utime("bytes", ns=(1, 2), follow_symlinks=False)
        self.assertEqual(os.lstat("bytes").st_mtime_ns, 2)

    def test_fifos_sockets_and_device_nodes(self):
        os.mkfifo("fifo", 0o600)
        pid = os.fork()
        if pid == 0:
            write("fifo", b"through")
            os._exit(0)
        self.assertEqual(read("fifo"), b"through")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        server.bind("socket")
        server.listen()
        client.connect("socket")
        client.send(b"hello")
        self.assertEqual(server.accept()[0].recv(9), b"hello")
        self.assertTrue(stat.S_ISSOCK(os.stat("socket").st_mode))
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod("block", stat.S_IFBLK | 0o600, os.makedev(259, 1048575))
        os.mknod("plain", stat.S_IFREG | 0o600)
        self.assertTrue(stat.S_ISCHR(os.stat("null").st_mode))
        self.assertEqual(os.stat("null").st_rdev, os.makedev(1, 3))
        self.assertEqual(os.stat("block").st_rdev, os.makedev(259, 1048575))
        self.assertEqual(read("plain"), b"")
        kinds = {entry.name: entry.is_file() for entry in os.scandir(".")}
        self.assertEqual([name for name, file in kinds.items() if file], ["plain"])

    # Directories

    def test_listing_100000_entries_while_they_change(self):
        count = 10_000 if QUICK else 100_000
        for index in range(count):
            os.close(os.open("stable-%d" % index, os.O_CREAT | os.O_WRONLY))
        stop = os.path.join(outside, "stop")
        pid = os.fork()
        if pid == 0:  # every name that comes and goes is used only once
            index = 0
            while not os.path.exists(stop):
                os.close(os.open("new-%d" % index, os.O_CREAT | os.O_WRONLY))
                if index >= 50:
                    os.unlink("new-%d" % (index - 50))
                index += 1
            os._exit(0)
        try:
            for _ in range(3):
                names = os.listdir(".")
                self.assertEqual(len(names), len(set(names)), "an entry came twice")
                stable = sum(name.startswith("stable-") for name in names)
                self.assertEqual(stable, count, "stable entries were lost")
        finally:
            write(stop)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        # Removing while listing, as rm does.
        with os.scandir(".") as entries:
            for entry in entries:
                os.unlink(entry.name)
        self.assertEqual(os.listdir("."), [])

    def test_rewound_directory_shows_what_is_new(self):
        opendir, readdir = libc.opendir, libc.readdir
        opendir.restype = readdir.restype = ctypes.c_void_p
        readdir.argtypes = libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]

        def names(stream):
            found = set()
            while entry := readdir(stream):
                found.add(ctypes.string_at(entry + 19))  # d_name of struct dirent
            return found
        write("a")
        stream = opendir(b".")
        self.assertEqual(names(stream), {b".", b"..", b"a"})
        write("b")
        os.unlink("a")
        libc.rewinddir(stream)
        self.assertEqual(names(stream), {b".", b"..", b"b"})
        libc.closedir(stream)

    def test_link_count_of_a_directory_counts_its_subdirectories(self):
        self.assertEqual(os.stat(".").st_nlink, 2)
        os.mkdir("a")
        os.mkdir("b")
        write("f")
        self.assertEqual(os.stat(".").st_nlink, 4)
        os.rmdir("a")
        self.assertEqual(os.stat(".").st_nlink, 3)

    # Data

    def test_holes_read_as_zeros_and_are_found(self):
        with open("f", "wb") as file:
            file.truncate(8 * MiB)
            file.seek(4 * MiB)
            file.write(b"x" * 65536)
        fd = os.open("f", os.O_RDONLY)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_DATA), 4 * MiB)
        self.assertEqual(os.lseek(fd, 4 * MiB, os.SEEK_HOLE), 4 * MiB + 65536)
        self.assertEqual(os.lseek(fd, 0, os.SEEK_HOLE), 0)
        self.refused(errno.ENXIO, os.lseek, fd, 4 * MiB + 65536, os.SEEK_DATA)
        self.refused(errno.ENXIO, os.lseek, fd, 8 * MiB, os.SEEK_HOLE)
        os.close(fd)
        self.assertLess(os.stat("f").st_blocks * 512, MiB)
        data = read("f")
        self.assertEqual(data.count(b"\0"), 8 * MiB - 65536)

    def test_fallocate_extends_punches_and_zeroes(self):
        fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
        fallocate(fd, 0, 0, 2 * MiB)
        self.assertEqual(os.fstat(fd).st_size, 2 * MiB)
        os.pwrite(fd, b"y" * 2 * MiB, 0)
        fallocate(fd, KEEP_SIZE, 0, 4 * MiB)
        self.assertEqual(os.fstat(fd).st_size, 2 * MiB)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 65536, 65536)
        fallocate(fd, ZERO_RANGE, MiB + 10, 1000)
        self.assertEqual(os.fstat(fd).st_size, 2 * MiB)
        data = bytearray(b"y" * 2 * MiB)
        data[65536:131072] = bytes(65536)
        data[MiB + 10:MiB + 1010] = bytes(1000)
        self.assertEqual(os.pread(fd, 4 * MiB, 0), bytes(data))
        fallocate(fd, ZERO_RANGE, 2 * MiB - 10, 20)
        self.assertEqual(os.fstat(fd).st_size, 2 * MiB + 10)
        with self.assertRaises(OSError) as caught:
            fallocate(fd, PUNCH_HOLE, 0, 4096)
        self.assertIn(caught.exception.errno, (errno.EOPNOTSUPP, errno.EINVAL))
        os.close(fd)

    def test_collapse_and_insert_work_or_are_refused_as_not_supported(self):
        blocks = [bytes([letter]) * 65536 for letter in b"abcd"]
        write("f", b"".join(blocks))
        fd = os.open("f", os.O_RDWR)
        for mode, expected in ((COLLAPSE_RANGE, [blocks[0], blocks[2], blocks[3]]),
                               (INSERT_RANGE, [blocks[0], bytes(65536), blocks[2], blocks[3]])):
            try:
                fallocate(fd, mode, 65536, 65536)
                self.assertEqual(read("f"), b"".join(expected))
            except OSError as error:
                self.assertEqual(error.errno, errno.EOPNOTSUPP)
                self.assertEqual(read("f"), b"".join(blocks))
                break
        os.close(fd)

    def test_copy_file_range_copies_within_and_between_files(self):
        data = os.urandom(3 * MiB + 17)
        write("a", data)
        source, target = os.open("a", os.O_RDWR), os.open("b", os.O_RDWR | os.O_CREAT, 0o644)
        copied = 0
        while copied < len(data):
            step = os.copy_file_range(source, target, len(data), copied, copied)
            self.assertGreater(step, 0)
            copied += step
        self.assertEqual(os.copy_file_range(source, target, 10, len(data), 0), 0)
        self.assertEqual(read("b"), data)
        self.assertEqual(os.copy_file_range(source, target, 1000, 500, 7), 1000)
        self.assertEqual(read("b"), data[:7] + data[500:1500] + data[1007:])
        # The source changes; the copy does not.
        os.pwrite(source, b"changed", 0)
        self.assertEqual(read("b")[:7], data[:7])
        self.refused(errno.EINVAL, os.copy_file_range, source, source, 100, 0, 50)
        os.close(source)
        os.close(target)

    def test_shared_writable_mapping(self):
        write("f", b"." * 3 * 4096)
        fd = os.open("f", os.O_RDWR)
        mapped = mmap.mmap(fd, 3 * 4096, mmap.MAP_SHARED)
        mapped[4096:4101] = b"mmap!"
        self.assertEqual(os.pread(fd, 5, 4096), b"mmap!")
        os.pwrite(fd, b"write", 8192)
        self.assertEqual(mapped[8192:8197], b"write")
        mapped.flush()
        pid = os.fork()
        if pid == 0:
            mapped[0:5] = b"child"
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertEqual(mapped[0:5], b"child")
        before = os.fstat(fd).st_mtime_ns
        time.sleep(0.02)
        mapped[1] = 66
        mapped.flush()
        mapped.close()
        os.close(fd)
        self.assertGreater(os.stat("f").st_mtime_ns, before)
        self.assertEqual(read("f")[:5] + read("f")[4096:4101], b"cBildmmap!")

    def test_mapping_beyond_the_end_is_a_bus_error(self):
        pid = os.fork()
        if pid == 0:
            fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
            os.ftruncate(fd, 8192)
            mapped = mmap.mmap(fd, 8192, mmap.MAP_SHARED)
            os.ftruncate(fd, 0)
            mapped[4096]
            os._exit(0)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), -signal.SIGBUS)

    def test_sparse_file_of_5_gib(self):
        fd = os.open("big", os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(fd, 5 * GiB)
        os.pwrite(fd, b"far away", 5 * GiB - 1000)
        os.pwrite(fd, b"across", 4 * GiB - 3)
        os.fsync(fd)
        self.assertEqual(os.fstat(fd).st_size, 5 * GiB)
        self.assertLess(os.fstat(fd).st_blocks * 512, 16 * MiB)
        self.assertEqual(os.pread(fd, 8, 5 * GiB - 1000), b"far away")
        self.assertEqual(os.pread(fd, 10, 4 * GiB - 5), b"\0\0across\0\0")
        self.assertEqual(os.pread(fd, MiB, 2 * GiB), bytes(MiB))
        os.ftruncate(fd, 4 * GiB)
        self.assertEqual(os.pread(fd, 10, 4 * GiB - 5), b"\0\0acr")
        os.ftruncate(fd, 4 * GiB + 100)
        self.assertEqual(os.pread(fd, 10, 4 * GiB), bytes(10))
        os.close(fd)

    def test_truncated_and_grown_again_file_has_zeros(self):
        write("f", b"z" * 100_000)
        os.truncate("f", 5000)
        os.truncate("f", 90_000)
        self.assertEqual(read("f"), b"z" * 5000 + bytes(85_000))
        self.refused(errno.EINVAL, os.truncate, "f", -1)
        self.refused(errno.EISDIR, os.truncate, ".", 0)

    def test_many_sizes_and_offsets_read_back(self):
        shadow = bytearray()
        fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
        position = 12345
        for step in range(300):
            position = (position * 1103515245 + 12345) % (1 << 31)
            offset, length = position % 700_000, position % 9973 + 1
            data = bytes([step % 251]) * length
            if len(shadow) < offset + length:
                shadow.extend(bytes(offset + length - len(shadow)))
            shadow[offset:offset + length] = data
            os.pwrite(fd, data, offset)
            if step % 50 == 49:
                self.assertEqual(read("f"), bytes(shadow))
        os.close(fd)

    def test_file_that_changes_after_it_was_closed_and_read(self):
        for size in (10, 5000, 3 * MiB):
            for change in range(3):
                write("f", bytes([65 + change]) * size)
                self.assertEqual(read("f"), bytes([65 + change]) * size)
                with open("f", "r+b") as file:
                    file.seek(size // 2)
                    file.write(b"!")
                self.assertEqual(read("f").index(b"!"), size // 2)

    # Metadata

    def test_times_with_nanoseconds(self):
        write("f")
        os.utime("f", ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
        found = os.stat("f")
        self.assertEqual(found.st_atime_ns, 1_234_567_890_123_456_789)
        self.assertEqual(found.st_mtime_ns, 987_654_321_987_654_321)
        os.utime("f", ns=(-1_500_000_000, -1))  # before 1970
        self.assertEqual(os.stat("f").st_mtime_ns, -1)
        timespec = struct.pack("qqqq", 0, 0x3fffffff, 0, 0x3ffffffe)  # UTIME_NOW, UTIME_OMIT
        call("utimensat", -100, b"f", timespec, 0)
        self.assertEqual(os.stat("f").st_mtime_ns, -1)
        self.assertLess(abs(os.stat("f").st_atime - time.time()), 60)

    def test_changes_move_the_right_times(self):
        def times(path):
            found = os.stat(path)
            return found.st_mtime_ns, found.st_ctime_ns

        def changed(path, action):
            before = times(path)
            time.sleep(0.02)
            action()
            after = times(path)
            return after[0] > before[0], after[1] > before[1]
        write("f", b"1")
        self.assertEqual(changed("f", lambda: os.chmod("f", 0o600)), (False, True))
        self.assertEqual(changed("f", lambda: os.link("f", "g")), (False, True))
        self.assertEqual(changed("f", lambda: os.unlink("g")), (False, True))
        self.assertEqual(changed("f", lambda: os.rename("f", "h") or os.rename("h", "f")),
                         (False, True))
        self.assertEqual(changed("f", lambda: os.setxattr("f", "user.a", b"1")), (False, True))
        self.assertEqual(changed("f", lambda: write("f", b"2")), (True, True))
        self.assertEqual(changed("f", lambda: os.truncate("f", 9)), (True, True))
        self.assertEqual(changed(".", lambda: write("new")), (True, True))
        self.assertEqual(changed(".", lambda: os.rename("new", "newer")), (True, True))
        self.assertEqual(changed(".", lambda: os.unlink("newer")), (True, True))
        self.assertEqual(changed(".", lambda: os.mkdir("d")), (True, True))
        self.assertEqual(changed(".", lambda: read("f")), (False, False))

    def test_reading_moves_the_access_time_as_relatime_does(self):
        write("f", b"data" * 2000)
        now = time.time_ns()
        os.utime("f", ns=(now - 10 * 10**9, now - 5 * 10**9))  # read before it was changed
        time.sleep(0.02)  # access times come from a coarser clock than the change's
        self.assertEqual(len(read("f")), 8000)
        # The time may be kept in memory for a moment, but stat must tell it.
        self.assertGreater(os.stat("f").st_atime_ns, now - 5 * 10**9)
        moved = os.stat("f").st_atime_ns
        time.sleep(0.02)
        read("f")  # read after the last change, and not long ago
        self.assertEqual(os.stat("f").st_atime_ns, moved)
        with open("f", "ab") as file:
            file.write(b"more")
        read("f")
        self.assertGreater(os.stat("f").st_atime_ns, moved)

    def test_setgid_directory_gives_its_group(self):
        os.mkdir("d")
        os.chown("d", 0, OTHER)
        os.chmod("d", 0o2777)
        write("d/f")
        os.mkdir("d/sub")
        os.symlink("x", "d/s")
        os.mknod("d/node", stat.S_IFREG | 0o600)
        for name in ("d/f", "d/sub", "d/s", "d/node"):
            self.assertEqual(os.lstat(name).st_gid, OTHER, name)
        self.assertEqual(stat.S_IMODE(os.stat("d/sub").st_mode), 0o2755)
        self.assertEqual(as_user(NOBODY, lambda: write("d/theirs", mode=0o755)), 0)
        self.assertEqual(os.stat("d/theirs").st_gid, OTHER)
        self.assertEqual(os.stat("d/theirs").st_uid, NOBODY)

    def test_sticky_directory_protects_other_users_files(self):
        os.mkdir("d")
        os.chmod("d", 0o1777)
        self.assertEqual(as_user(NOBODY, lambda: write("d/f")), 0)
        self.assertEqual(as_user(OTHER, lambda: os.unlink("d/f")), errno.EPERM)
        self.assertEqual(as_user(OTHER, lambda: os.rename("d/f", "d/g")), errno.EPERM)
        self.assertEqual(as_user(NOBODY, lambda: os.unlink("d/f")), 0)

    def test_permissions_keep_other_users_out(self):
        write("f", b"private", mode=0o600)
        os.mkdir("d", 0o700)
        write("d/f", b"public")
        self.assertEqual(as_user(NOBODY, lambda: read("f")), errno.EACCES)
        self.assertEqual(as_user(NOBODY, lambda: read("d/f")), errno.EACCES)
        self.assertEqual(as_user(NOBODY, lambda: os.listdir("d")), errno.EACCES)
        self.assertEqual(as_user(NOBODY, lambda: os.chmod("f", 0o777)), errno.EPERM)
        self.assertEqual(as_user(NOBODY, lambda: os.chown("f", NOBODY, -1)), errno.EPERM)
        self.assertEqual(as_user(NOBODY, lambda: os.utime("f", ns=(1, 1))), errno.EPERM)
        os.chown("f", 0, OTHER)
        os.chmod("f", 0o640)
        self.assertEqual(as_user(NOBODY, lambda: read("f"), groups=[OTHER]), 0)

    def test_write_truncate_and_chown_clear_suid_and_sgid(self):
        def privileged(mode=0o6777):
            write("f", b"#!program")
            os.chown("f", NOBODY, NOBODY)
            os.chmod("f", mode)
            return lambda: stat.S_IMODE(os.stat("f").st_mode)

        def append():
            with open("f", "ab") as file:
                file.write(b"more")
        mode = privileged()
        self.assertEqual(as_user(OTHER, append), 0)
        self.assertEqual(oct(mode()), "0o777")
        mode = privileged()
        self.assertEqual(as_user(OTHER, lambda: os.truncate("f", 3)), 0)
        self.assertEqual(oct(mode()), "0o777")
        mode = privileged()
        self.assertEqual(as_user(OTHER, lambda: write("f")), 0)
        self.assertEqual(oct(mode()), "0o777")
        mode = privileged()
        os.chown("f", OTHER, OTHER)  # by root too
        self.assertEqual(oct(mode()), "0o777")
        mode = privileged(0o2767)  # without group execution sgid has another meaning, and stays
        self.assertEqual(as_user(NOBODY, append), 0)
        self.assertEqual(oct(mode()), "0o2767")
        mode = privileged()
        self.assertEqual(as_user(NOBODY, lambda: os.utime("f")), 0)
        self.assertEqual(oct(mode()), "0o6777")

    def test_chmod_by_one_outside_the_group_clears_sgid(self):
        write("f")
        os.chown("f", NOBODY, OTHER)
        self.assertEqual(as_user(NOBODY, lambda: os.chmod("f", 0o2755)), 0)
        self.assertEqual(oct(stat.S_IMODE(os.stat("f").st_mode)), "0o755")

    def test_chown_and_chmod_of_every_bit(self):
        write("f")
        for mode in (0o7777, 0o0000, 0o1640, 0o4711):
            os.chmod("f", mode)
            self.assertEqual(stat.S_IMODE(os.stat("f").st_mode), mode)
        os.chown("f", 4294967294, 70000)
        self.assertEqual((os.stat("f").st_uid, os.stat("f").st_gid), (4294967294, 70000))

    def test_umask_applies(self):
        os.umask(0o027)
        write("f", mode=0o666)
        os.mkdir("d")
        os.mkfifo("p")
        self.assertEqual(stat.S_IMODE(os.stat("f").st_mode), 0o640)
        self.assertEqual(stat.S_IMODE(os.stat("d").st_mode), 0o750)
        self.assertEqual(stat.S_IMODE(os.stat("p").st_mode), 0o640)

    def test_trusted_attributes_are_the_administrators(self):
        write("f", mode=0o666)
        os.setxattr("f", "user.one", b"1")
        os.setxattr("f", "trusted.one", b"1")

        def theirs():
            names = {name for name in os.listxattr("f") if "ipfs" not in name}
            os._exit(0 if names == {"user.one"} else 99)
        self.assertEqual(as_user(NOBODY, theirs), 0)
        self.assertEqual(as_user(NOBODY, lambda: os.getxattr("f", "trusted.one")), errno.ENODATA)
        self.assertEqual(as_user(NOBODY, lambda: os.setxattr("f", "trusted.one", b"2")), errno.EPERM)
        self.assertEqual(as_user(NOBODY, lambda: os.removexattr("f", "trusted.one")), errno.EPERM)
        self.assertIn("trusted.one", os.listxattr("f"))

    def test_extended_attributes(self):
        write("f")
        os.mkdir("d")
        for path in ("f", "d"):
            os.setxattr(path, "user.one", b"\x00\xff binary")
            os.setxattr(path, "user.empty", b"")
            os.setxattr(path, "trusted.root", b"only")
            self.assertEqual(os.getxattr(path, "user.one"), b"\x00\xff binary")
            self.assertEqual(os.getxattr(path, "user.empty"), b"")
            self.assertEqual({name for name in os.listxattr(path) if "ipfs" not in name},
                             {"user.one", "user.empty", "trusted.root"})
            self.refused(errno.EEXIST, os.setxattr, path, "user.one", b"", os.XATTR_CREATE)
            self.refused(errno.ENODATA, os.setxattr, path, "user.no", b"", os.XATTR_REPLACE)
            os.setxattr(path, "user.one", b"2", os.XATTR_REPLACE)
            self.assertEqual(os.getxattr(path, "user.one"), b"2")
            os.removexattr(path, "user.one")
            self.refused(errno.ENODATA, os.getxattr, path, "user.one")
            self.refused(errno.ENODATA, os.removexattr, path, "user.one")
        self.assertEqual(call("getxattr", b"f", b"trusted.root", None, 0), 4)
        self.refused(errno.ERANGE, call, "getxattr", b"f", b"trusted.root", b"..", 2)
        os.setxattr("f", "user.big", b"b" * 3500)
        self.assertEqual(os.getxattr("f", "user.big"), b"b" * 3500)
        os.setxattr("f", "user." + "n" * 250, b"long name")
        self.assertEqual(os.getxattr("f", "user." + "n" * 250), b"long name")
        self.refused(errno.ERANGE, os.setxattr, "f", "user." + "n" * 251, b"")
        self.refused(errno.E2BIG, os.setxattr, "f", "user.huge", b"h" * 65537)
        self.refused(errno.EOPNOTSUPP, os.setxattr, "f", "nonsense.name", b"")
        os.symlink("f", "s")
        self.refused(errno.EPERM, os.setxattr, "s", "user.a", b"", follow_symlinks=False)
        os.setxattr("s", "trusted.a", b"s", follow_symlinks=False)
        self.assertEqual(os.getxattr("s", "trusted.a", follow_symlinks=False), b"s")
        # An attribute of root's own is neither shown nor given to others.
        os.chmod("f", 0o666)
        self.assertEqual(as_user(NOBODY, lambda: os.getxattr("f", "trusted.root")), errno.ENODATA)
        self.assertEqual(as_user(NOBODY, lambda: os.setxattr("f", "user.theirs", b"1")), 0)

    def test_acl_mask_and_mode_follow_each_other(self):
        write("f", mode=0o640)
        run("setfacl", "-m", "u:%d:rwx" % NOBODY, "f")
        self.assertEqual(oct(stat.S_IMODE(os.stat("f").st_mode)), "0o670")
        os.chmod("f", 0o650)
        self.assertIn("mask::r-x", run("getfacl", "-cn", "f"))
        self.assertIn("group::r--", run("getfacl", "-cn", "f"))
        run("setfacl", "-m", "m::r", "f")
        self.assertEqual(oct(stat.S_IMODE(os.stat("f").st_mode)), "0o640")
        run("setfacl", "-b", "f")
        self.assertEqual(oct(stat.S_IMODE(os.stat("f").st_mode)), "0o640")
        self.assertEqual(os.listxattr("f"), [n for n in os.listxattr("f") if "acl" not in n])
        run("setfacl", "-m", "u::rwx,g::-,o::r", "f")  # nothing that a mode cannot say
        self.assertEqual(oct(stat.S_IMODE(os.stat("f").st_mode)), "0o704")

    def test_acl_admits_and_refuses_users(self):
        write("f", b"x", mode=0o600)
        os.mkdir("d", 0o700)
        write("d/f", b"x")
        run("setfacl", "-m", "u:%d:r" % NOBODY, "f")
        run("setfacl", "-m", "u:%d:x" % NOBODY, "d")
        self.assertEqual(as_user(NOBODY, lambda: read("f")), 0)
        self.assertEqual(as_user(OTHER, lambda: read("f")), errno.EACCES)
        self.assertEqual(as_user(NOBODY, lambda: write("f")), errno.EACCES)
        self.assertEqual(as_user(NOBODY, lambda: read("d/f")), 0)
        self.assertEqual(as_user(NOBODY, lambda: os.listdir("d")), errno.EACCES)
        run("setfacl", "-m", "m::-", "f")
        self.assertEqual(as_user(NOBODY, lambda: read("f")), errno.EACCES)

    def test_default_acl_is_inherited(self):
        os.mkdir("d")
        run("setfacl", "-d", "-m", "u:%d:rwx,g::rx,o::-" % NOBODY, "d")
        os.umask(0o077)  # with a default ACL the umask does not count
        write("d/f", mode=0o666)
        os.mkdir("d/sub")
        os.mkfifo("d/p", 0o666)
        self.assertEqual(oct(stat.S_IMODE(os.stat("d/f").st_mode)), "0o660")
        self.assertEqual(oct(stat.S_IMODE(os.stat("d/sub").st_mode)), "0o770")
        self.assertEqual(oct(stat.S_IMODE(os.stat("d/p").st_mode)), "0o660")
        self.assertIn("user:%d:rwx" % NOBODY, run("getfacl", "-cnE", "d/f"))
        self.assertIn("mask::rw-", run("getfacl", "-cnE", "d/f"))
        self.assertEqual(run("getfacl", "-cnd", "d"), run("getfacl", "-cnd", "d/sub"))
        self.assertEqual(run("getfacl", "-cnd", "d/f").strip(), "")
        self.assertEqual(as_user(NOBODY, lambda: write("d/f", b"by the ACL")), 0)
        run("setfacl", "-k", "d")
        write("d/g", mode=0o666)
        self.assertEqual(oct(stat.S_IMODE(os.stat("d/g").st_mode)), "0o600")

    # Locks

    def locked_elsewhere(self, action):
        """True when a child process cannot take the lock that the action takes."""
        def attempt():
            fd = os.open("f", os.O_RDWR)
            action(fd)
            os.close(fd)
        code = as_user(0, attempt)
        self.assertIn(code, (0, errno.EAGAIN, errno.EACCES))
        return code != 0

    def test_flock_between_processes(self):
        write("f")
        exclusive = lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shared = lambda fd: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fd = os.open("f", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self.assertTrue(self.locked_elsewhere(exclusive))
        self.assertTrue(self.locked_elsewhere(shared))
        fcntl.flock(fd, fcntl.LOCK_SH)
        self.assertTrue(self.locked_elsewhere(exclusive))
        self.assertFalse(self.locked_elsewhere(shared))
        os.close(fd)
        self.assertFalse(self.locked_elsewhere(exclusive))

    def test_record_locks_between_processes(self):
        write("f", bytes(100))
        lock = lambda start: lambda fd: fcntl.lockf(
            fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, start)
        fd = os.open("f", os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
        self.assertTrue(self.locked_elsewhere(lock(25)))
        self.assertFalse(self.locked_elsewhere(lock(30)))
        self.assertFalse(self.locked_elsewhere(lock(10)))
        pid = os.getpid()

        def holder(other):  # F_GETLK tells who holds it
            found = fcntl.fcntl(other, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 20, 1, 0))
            kind, _, start, length, owner = struct.unpack("hhqqi4x", found)
            if (kind, start, length, owner) != (fcntl.F_WRLCK, 20, 10, pid):
                raise OSError(errno.EPROTO, "wrong holder")
        self.assertFalse(self.locked_elsewhere(holder))
        os.close(os.open("f", os.O_RDONLY))  # closing any descriptor of the file drops them
        self.assertFalse(self.locked_elsewhere(lock(20)))
        os.close(fd)

    def test_waiting_for_a_lock_ends_when_it_is_released(self):
        write("f", bytes(100))
        for take in (lambda fd, how: fcntl.flock(fd, how), lambda fd, how: fcntl.lockf(fd, how)):
            fd = os.open("f", os.O_RDWR)
            take(fd, fcntl.LOCK_EX)
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                mine = os.open("f", os.O_RDWR)
                os.write(writer, b"w")
                take(mine, fcntl.LOCK_EX)
                os._exit(0)
            os.read(reader, 1)
            time.sleep(0.05)
            self.assertEqual(os.waitpid(pid, os.WNOHANG), (0, 0))
            take(fd, fcntl.LOCK_UN)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            for end in (fd, reader, writer):
                os.close(end)

    def test_waiting_for_a_lock_can_be_interrupted(self):
        write("f", bytes(100))
        fd = os.open("f", os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            mine = os.open("f", os.O_RDWR)
            os.write(writer, b"w")
            fcntl.flock(mine, fcntl.LOCK_EX)
            os._exit(0)
        os.read(reader, 1)
        time.sleep(0.05)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), -signal.SIGTERM)
        for end in (fd, reader, writer):
            os.close(end)

    def test_open_file_description_locks(self):
        write("f", bytes(100))
        take = lambda fd: fcntl.fcntl(
            fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
        first, second = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
        take(first)
        self.refused(errno.EAGAIN, take, second)  # in one process too
        os.close(first)
        take(second)
        os.close(second)

    # The whole

    def test_statfs_gives_sane_figures(self):
        found = os.statvfs(".")
        self.assertEqual(found.f_namemax, 255)
        self.assertGreaterEqual(found.f_frsize, 512)
        self.assertGreater(found.f_blocks, 0)
        self.assertLessEqual(found.f_bavail, found.f_bfree)
        self.assertLessEqual(found.f_bfree, found.f_blocks)
        self.assertGreater(found.f_files, 0)
        self.assertLessEqual(found.f_ffree, found.f_files)
        self.assertEqual(os.statvfs(self.home).f_fsid, os.statvfs(base).f_fsid)

    def test_fsync_of_files_and_directories(self):
        fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
        os.write(fd, b"x" * 100_000)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        call("syncfs", fd)
        os.close(fd)

    def test_device_and_inode_numbers_identify_a_file(self):
        seen = set()
        for index in range(50):
            write("f%d" % index)
            found = os.stat("f%d" % index)
            self.assertEqual(found.st_dev, os.stat(base).st_dev)
            seen.add(found.st_ino)
        self.assertEqual(len(seen), 50)
        for entry in os.scandir("."):
            self.assertEqual(entry.inode(), os.stat(entry.name).st_ino)

    def test_programs_run_from_it(self):
        shutil.copy("/bin/true", "program")
        self.assertEqual(subprocess.run(["./program"]).returncode, 0)
        self.refused(errno.ETXTBSY, self.write_while_running)

    def write_while_running(self):
        shutil.copy("/bin/sleep", "sleeper")
        child = subprocess.Popen(["./sleeper", "600"])
        try:
            end = time.monotonic() + 60
            while os.readlink("/proc/%d/exe" % child.pid) != os.path.realpath("sleeper"):
                self.assertLess(time.monotonic(), end)
            os.close(os.open("sleeper", os.O_WRONLY))
        finally:
            child.kill()
            child.wait()


class Report(unittest.TestResult):
    @staticmethod
    def name(case):
        return case.id().split(".test_")[-1].replace("_", " ")

    def addSuccess(self, case):
        print("ok", self.name(case), flush=True)

    def addFailure(self, case, problem):
        super().addFailure(case, problem)
        lines = traceback.extract_tb(problem[2])
        mine = [line for line in lines if line.filename == __file__]
        reason = " ".join(str(problem[1]).split())[:300]
        print("not ok %s: %s: %s (line %d)" % (
            self.name(case), problem[0].__name__, reason, mine[-1].lineno if mine else 0), flush=True)

    addError = addFailure


base = os.path.abspath(sys.argv[1])
outside = tempfile.mkdtemp()
suite = unittest.defaultTestLoader.loadTestsFromTestCase(Posix)
if len(sys.argv) > 2:
    suite = unittest.TestSuite(case for case in suite if any(part in case.id() for part in sys.argv[2:]))
outcome = Report()
suite.run(outcome)
shutil.rmtree(outside)
sys.exit(0 if outcome.wasSuccessful() and outcome.testsRun else 1)
