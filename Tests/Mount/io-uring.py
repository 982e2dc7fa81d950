#!/usr/bin/env python3
"""The largest and the smallest requests that there are, each checked on the spot.

    io-uring.py DIRECTORY [no-xattrs]   prints what was seen; the same for every filesystem
    io-uring.py load DIRECTORY READY    works until an error, and prints its name
    io-uring.py forbidden PROGRAM...    runs a program that may make no rings, as seccomp(2) forbids them
"""

import ctypes
import errno
import hashlib
import mmap
import os
import struct
import sys
import threading

MIB = 1 << 20


def pattern(count, seed):
    block = hashlib.shake_256(b"%d" % seed).digest(min(count, MIB))
    return (block * (count // len(block) + 1))[:count] if count else b""


def direct_io(root):
    """Reads and writes without the page cache, up to more than a request can carry."""
    path = os.path.join(root, "direct")
    flags = os.O_RDWR | os.O_CREAT | os.O_DIRECT
    descriptor = os.open(path, flags, 0o600)
    whole = bytearray()
    for index, count in enumerate((512, 4096, 65536, MIB - 4096, MIB, MIB + 4096, 3 * MIB, 4096)):
        memory = mmap.mmap(-1, count)
        memory.write(pattern(count, index))
        written = os.pwritev(descriptor, [memory], len(whole))
        assert written == count, ("pwrite", count, written)
        whole += memory[:]
    end = len(whole)
    memory = mmap.mmap(-1, 4 * MIB)
    for offset in (0, 512, 4096, MIB, end - 4096, end - 512, end, end + MIB):
        for count in (512, 4096, MIB, MIB + 4096, 4 * MIB):
            read = os.preadv(descriptor, [memoryview(memory)[:count]], offset)
            assert memory[:read] == whole[offset:offset + count], ("pread", offset, count, read)
    os.close(descriptor)
    with open(path, "rb") as file:
        assert file.read() == whole
    print("direct", end, hashlib.sha256(whole).hexdigest())
    os.unlink(path)


def cached_io(root):
    path = os.path.join(root, "cached")
    whole = pattern(5 * MIB + 17, 99)
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(whole), 777_777):
            file.write(whole[start:start + 777_777])
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with open(path, "rb", buffering=0) as file:
        assert file.readall() == whole
    print("cached", len(whole))
    os.unlink(path)


def raised(call, *words, **named):
    try:
        call(*words, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def names(root):
    """Names of 255 bytes, in every request that carries two names."""
    root = os.path.join(root, "names")
    os.mkdir(root)
    one, other = os.path.join(root, "a" * 255), os.path.join(root, "\u00e9" * 127 + "b")
    target = "t/" * 2047 + "t"
    with open(one, "wb") as file:
        file.write(b"content")
    os.rename(one, other)
    os.link(other, one)
    assert os.stat(one).st_nlink == 2
    os.rename(other, one)  # Two names of one file: nothing happens.
    assert sorted(os.listdir(root)) == sorted([os.path.basename(one), os.path.basename(other)])
    os.unlink(other)
    os.symlink(target, other)
    assert len(target) == 4095 and os.readlink(other) == target
    os.rename(other, one)
    assert os.readlink(one) == target
    os.unlink(one)
    os.mkdir(one)
    os.rename(one, other)
    os.rmdir(other)
    print("names", raised(os.mkdir, one + "a"), raised(os.symlink, target + "/", one),
          raised(os.symlink, "", one), raised(os.rename, one, other))
    os.rmdir(root)


def listing(root):
    """Ten thousand names, listed while nothing changes: each once."""
    directory = os.path.join(root, "many")
    os.mkdir(directory)
    made = ["%05d-%s" % (index, "n" * (index % 240)) for index in range(10_000)]
    for name in made:
        os.close(os.open(os.path.join(directory, name), os.O_CREAT | os.O_WRONLY, 0o600))
    found = os.listdir(directory)
    assert sorted(found) == made, len(found)
    with os.scandir(directory) as entries:
        total = sum(entry.stat().st_mode & 0o777 == 0o600 for entry in entries)
    print("listing", len(found), total)
    for name in made:
        os.unlink(os.path.join(directory, name))
    os.rmdir(directory)


def attributes(root):
    """Values and lists of 64 KiB, and buffers that are too small for them."""
    path = os.path.join(root, "attributed")
    with open(path, "wb"):
        pass
    value = pattern(65536, 5)
    os.setxattr(path, "user.large", value)
    assert os.getxattr(path, "user.large") == value
    os.setxattr(path, "user.large", value[:1], os.XATTR_REPLACE)
    assert os.getxattr(path, "user.large") == value[:1]
    os.setxattr(path, "user.empty", b"", os.XATTR_CREATE)
    assert os.getxattr(path, "user.empty") == b""
    assert raised(os.setxattr, path, "user.more", value + b"x") in ("E2BIG", "ENOSPC")
    name = "user." + "n" * 250
    os.setxattr(path, name, value[:1000])
    assert os.getxattr(path, name) == value[:1000]
    many = ["user.%03d%s" % (index, "m" * 240) for index in range(200)]
    for each in many:
        os.setxattr(path, each, b"v")
    listed = [each for each in os.listxattr(path) if each.startswith("user.")]
    assert sorted(listed) == sorted(many + [name, "user.large", "user.empty"])
    assert raised(os.getxattr, path, "user.none") == "ENODATA"
    os.removexattr(path, name)
    os.unlink(path)


def side_by_side(root):
    """The same on all processors at once, so that each queue has its share."""
    failures = []

    def work(number):
        try:
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number % 2 - 1]})
            directory = os.path.join(root, "side-%d" % number)
            os.mkdir(directory)
            for index in range(300):
                path = os.path.join(directory, str(index))
                with open(path, "wb") as file:
                    file.write(pattern(index * 100, index))
                with open(path, "rb") as file:
                    assert file.read() == pattern(index * 100, index)
                os.rename(path, path + "-new")
                os.unlink(path + "-new")
            os.rmdir(directory)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    print("side by side", len(threads))


def load(root, ready):
    """Makes synced files until the mount is gone; prints the names of the errors."""
    errors = set()
    lock = threading.Lock()

    def work(number):
        index = 0
        try:
            while True:
                path = os.path.join(root, "%d-%d" % (number, index))
                descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
                try:
                    os.write(descriptor, pattern(5000, index))
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                with lock, open(ready, "a") as file:
                    file.write("%d-%d %d\n" % (number, index, index))
                os.listdir(root)
                index += 1
        except OSError as error:
            with lock:
                errors.add(errno.errorcode.get(error.errno, str(error.errno)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(*sorted(errors))


def verify(root, ready):
    """Checks the files that `load` noted."""
    count = 0
    for line in open(ready):
        if not line.endswith("\n"):
            break
        name, index = line.split()
        with open(os.path.join(root, name), "rb") as file:
            assert file.read() == pattern(5000, int(index)), name
        count += 1
    print(count)


def forbidden(words):
    """The whole machine has a switch for it, too (kernel.io_uring_disabled); this is one process's."""
    load_number, jump_if_equal, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    setup = 425  # io_uring_setup(2), on every architecture
    refuse, allow = 0x00050000 | errno.EPERM, 0x7fff0000
    filters = b"".join(struct.pack("HBBI", *each) for each in (
        (load_number, 0, 0, 0), (jump_if_equal, 0, 1, setup), (give, 0, 0, refuse),
        (give, 0, 0, allow)))
    memory = ctypes.create_string_buffer(filters, len(filters))
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, program, 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")
    os.execvp(words[0], words)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(sys.argv[2], sys.argv[3])
    elif sys.argv[1] == "verify":
        verify(sys.argv[2], sys.argv[3])
    elif sys.argv[1] == "forbidden":
        forbidden(sys.argv[2:])
    else:
        for test in (direct_io, cached_io, names, listing, side_by_side):
            test(sys.argv[1])
        if sys.argv[2:] != ["no-xattrs"]:
            attributes(sys.argv[1])
