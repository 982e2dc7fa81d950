"""A second, independent maker and reader of UnixFS, to compare the daemon with. Standard library only.

    unixfs.py cid --profile v0|v1 PATH...   the CID of each file or tree, one a line
    unixfs.py digest CID                    the sha2-256 in it, as sha256sum prints it
    unixfs.py blocks CAR                    the CIDs of all blocks in a CAR file
    unixfs.py compare CAR TREE CID          the CAR holds the tree: its root is CID, every block has
                                            its hash, nothing that is linked is missing, nothing
                                            else is in it, and its files are the tree's files

Formats: IPLD dag-pb, UnixFS 1, CAR 1 and the IPIP-0499 profiles. Directories that the profile would
shard are read, but not made.
"""
import argparse, base64, hashlib, os, stat, sys

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
RAW, DAG_PB = 0x55, 0x70
PROFILES = {"v0": (262144, 174), "v1": (1048576, 1024)}
SHARD_ABOVE = 262144


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def field(tag, data):
    return bytes([tag]) + varint(len(data)) + data


def text(cid):
    if cid[:2] == b"\x12\x20":
        value, out = int.from_bytes(cid, "big"), ""
        while value:
            value, digit = divmod(value, 58)
            out = ALPHABET[digit] + out
        return out
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def binary(cid):
    if cid.startswith("Qm"):
        value = 0
        for character in cid:
            value = value * 58 + ALPHABET.index(character)
        return value.to_bytes(34, "big")
    assert cid[0] == "b", "not base32: " + cid
    return base64.b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))


def codec(cid):
    return DAG_PB if cid[:2] == b"\x12\x20" else read_varint(cid, 1)[0]


class Maker:
    def __init__(self, profile):
        self.profile = profile
        self.chunk, self.width = PROFILES[profile]

    def cid(self, kind, block):
        digest = b"\x12\x20" + hashlib.sha256(block).digest()
        return digest if self.profile == "v0" else bytes([1, kind]) + digest

    def node(self, data, links):  # link: CID, name, size of the tree below
        block = b"".join(field(0x12, field(0x0a, cid) + field(0x12, name) + b"\x18" + varint(size))
                         for cid, name, size in links) + field(0x0a, data)
        return self.cid(DAG_PB, block), len(block) + sum(size for _, _, size in links), len(block)

    def leaf(self, data):
        if self.profile == "v1":
            return self.cid(RAW, data), len(data)
        return self.node(b"\x08\x02" + (field(0x12, data) if data else b"")
                         + b"\x18" + varint(len(data)), [])[:2]

    def file(self, path):
        level = []  # CID, tree size, file bytes
        with open(path, "rb") as file:
            while (data := file.read(self.chunk)) or not level:
                level.append(self.leaf(data) + (len(data),))
        while len(level) > 1:
            above = []
            for start in range(0, len(level), self.width):
                part = level[start:start + self.width]
                total = sum(size for _, _, size in part)
                data = b"\x08\x02\x18" + varint(total) + b"".join(
                    b"\x20" + varint(size) for _, _, size in part)
                cid, tree, _ = self.node(data, [(cid, b"", tree) for cid, tree, _ in part])
                above.append((cid, tree, total))
            level = above
        return level[0][:2]

    def path(self, path):
        mode = os.lstat(path).st_mode
        if stat.S_ISREG(mode):
            return self.file(path)
        if stat.S_ISLNK(mode):
            return self.node(b"\x08\x04" + field(0x12, os.fsencode(os.readlink(path))), [])[:2]
        assert stat.S_ISDIR(mode), "not a file, link or directory: %r" % path
        links = []
        for name in sorted(os.listdir(os.fsencode(path))):
            cid, size = self.path(os.path.join(os.fsencode(path), name))
            links.append((cid, name, size))
        cid, size, own = self.node(b"\x08\x01", links)
        estimate = own if self.profile == "v1" else sum(len(c) + len(n) for c, n, _ in links)
        assert estimate <= SHARD_ABOVE, "this directory would be sharded: %r" % path
        return cid, size


def messages(data):
    """The (field number, value) pairs of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        elif key & 7 == 2:
            size, at = read_varint(data, at)
            value, at = data[at:at + size], at + size
            assert len(value) == size, "cut off"
        else:
            value, at = data[at:at + 4], at + 4
        yield key >> 3, value


class Car:
    def __init__(self, path):
        self.file = open(path, "rb")
        self.end = os.path.getsize(path)
        header = self.file.read(self.next_varint())
        count = header[7] - 0x80
        assert header[:7] == b"\xa2\x65roots" and header[-9:] == b"\x67version\x01", "not a CARv1"
        self.roots, at = [], 8
        for _ in range(count):
            assert header[at:at + 3] == b"\xd8\x2a\x58" and header[at + 4] == 0
            self.roots.append(header[at + 5:at + 4 + header[at + 3]])
            at += 4 + header[at + 3]
        self.blocks = {}
        while self.file.tell() < self.end:
            size = self.next_varint()
            start = self.file.tell()
            section = self.file.read(size)
            assert len(section) == size, "the CAR is cut off"
            length = 34 if section[:2] == b"\x12\x20" else 36
            cid = section[:length]
            assert cid[length - 34:length - 32] == b"\x12\x20", "not sha2-256"
            assert hashlib.sha256(section[length:]).digest() == cid[-32:], \
                "block %s has the wrong bytes" % text(cid)
            assert cid not in self.blocks, "block %s is there twice" % text(cid)
            self.blocks[cid] = (start + length, size - length)
        self.reached = set()

    def next_varint(self):
        value = shift = 0
        while True:
            byte = self.file.read(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def block(self, cid):
        assert cid in self.blocks, "block %s is linked and missing" % text(cid)
        self.reached.add(cid)
        start, size = self.blocks[cid]
        self.file.seek(start)
        return self.file.read(size)

    def node(self, cid):
        """Links (CID, name), kind, data."""
        links, data = [], b""
        for number, value in messages(self.block(cid)):
            if number == 2:
                link = dict(messages(value))
                links.append((link[1], link.get(2, b"")))
            else:
                data = value
        inner = dict(messages(data))
        return links, inner[1], inner.get(2, b"")

    def content(self, cid):
        if codec(cid) == RAW:
            yield self.block(cid)
            return
        links, kind, data = self.node(cid)
        assert kind == 2, "not a file: " + text(cid)
        yield data
        for child, _ in links:
            yield from self.content(child)

    def entries(self, cid):
        links, kind, _ = self.node(cid)
        if kind == 1:
            return {name: child for child, name in links}
        assert kind == 5, "not a directory: " + text(cid)
        found = {}
        for child, name in links:
            found.update({name[2:]: child} if len(name) > 2 else self.entries(child))
        return found

    def compare(self, cid, path):
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            entries = self.entries(cid)
            names = sorted(os.listdir(path))
            assert sorted(entries) == names, "%r: %r in the CAR, %r in the tree" % (
                path, sorted(entries)[:5], names[:5])
            for name in names:
                self.compare(entries[name], os.path.join(path, name))
        elif stat.S_ISLNK(mode):
            _, kind, data = self.node(cid)
            assert kind == 4 and data == os.readlink(path), "%r: another target" % path
        else:
            with open(path, "rb") as file:
                for part in self.content(cid):
                    assert file.read(len(part)) == part, "%r: other bytes" % path
                assert not file.read(1), "%r: the CAR ends too early" % path


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    cid = commands.add_parser("cid")
    cid.add_argument("--profile", choices=PROFILES, required=True)
    cid.add_argument("paths", nargs="+")
    commands.add_parser("digest").add_argument("cid")
    commands.add_parser("blocks").add_argument("car")
    compare = commands.add_parser("compare")
    for name in ("car", "tree", "cid"):
        compare.add_argument(name)
    arguments = parser.parse_args()
    if arguments.command == "cid":
        for path in arguments.paths:
            print(text(Maker(arguments.profile).path(path)[0]))
    elif arguments.command == "digest":
        print(binary(arguments.cid)[-32:].hex())
    elif arguments.command == "blocks":
        for block in Car(arguments.car).blocks:
            print(text(block))
    else:
        car = Car(arguments.car)
        assert [text(root) for root in car.roots] == [arguments.cid], \
            "the CAR's roots are %r" % [text(root) for root in car.roots]
        car.compare(car.roots[0], os.fsencode(arguments.tree))
        left = set(car.blocks) - car.reached
        assert not left, "%d blocks are not part of the tree" % len(left)
        print("%d blocks" % len(car.blocks))


try:
    main()
except (AssertionError, OSError, IndexError, KeyError) as error:
    sys.exit("unixfs.py: %s %s" % (type(error).__name__, error))
