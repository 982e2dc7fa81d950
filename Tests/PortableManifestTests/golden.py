#!/usr/bin/env python3
# Prints the CIDs that GoldenTests.swift expects, made from docs/FORMATS.md "The portable manifest" alone: an
# encoder of CBOR, Murmur3 and a chunker of its own, nothing of this project's and no library.
import base64
import hashlib

MASK = (1 << 64) - 1


class Link(bytes):
    pass


def head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    for extra, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * width:
            return bytes([major << 5 | extra]) + number.to_bytes(width, "big")


def cbor(value):
    if isinstance(value, Link):
        return b"\xd8\x2a" + cbor(b"\0" + bytes(value))
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
    return head(5, len(keys)) + b"".join(cbor(key) + cbor(value[key]) for key in keys)


def cid(block):
    return Link(b"\x01\x71\x12\x20" + hashlib.sha256(block).digest())


def text(link):
    return "b" + base64.b32encode(link).decode().lower().rstrip("=")


def murmur(data):
    c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
    rotate = lambda x, n: (x << n | x >> 64 - n) & MASK
    mix1 = lambda k: rotate(k * c1 & MASK, 31) * c2 & MASK
    mix2 = lambda k: rotate(k * c2 & MASK, 33) * c1 & MASK

    def final(k):
        k = (k ^ k >> 33) * 0xFF51AFD7ED558CCD & MASK
        k = (k ^ k >> 33) * 0xC4CEB9FE1A85EC53 & MASK
        return k ^ k >> 33

    h1 = h2 = 0
    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        h1 ^= mix1(int.from_bytes(data[at : at + 8], "little"))
        h1 = ((rotate(h1, 27) + h2) * 5 + 0x52DCE729) & MASK
        h2 ^= mix2(int.from_bytes(data[at + 8 : at + 16], "little"))
        h2 = ((rotate(h2, 31) + h1) * 5 + 0x38495AB5) & MASK
    h2 ^= mix2(int.from_bytes(data[whole + 8 :], "little"))
    h1 ^= mix1(int.from_bytes(data[whole : whole + 8], "little"))
    h1, h2 = h1 ^ len(data), h2 ^ len(data)
    h1 = (h1 + h2) & MASK
    h2 = (h2 + h1) & MASK
    return (final(h1) + final(h2)) & MASK


def split(items, level, weigh):
    """The chunks of a level; the items are (name, …)."""
    weights = [weigh(item) for item in items]
    chunks, start, left = [], 0, sum(weights)
    while left > 131072:
        weight, end = 0, start
        while weight + weights[end] <= 131072:
            if weight >= 32768:
                hash = murmur(items[end][0] + bytes([level])) >> 32
                if hash < weights[end] << 17:
                    break
            weight += weights[end]
            end += 1
        # The entry that would be too much may be a boundary or not: the chunk ends before it.
        chunks.append(items[start:end])
        start, left = end, left - weight
    chunks.append(items[start:])
    return chunks


def leaf(entries):
    common, values = [], []
    for name, shared, times, rest in entries:
        if shared not in common:
            common.append(shared)
        values.append([name, common.index(shared), *times] + ([rest] if rest else []))
    return cbor({"common": common, "entries": values})


def entry_weight(entry):
    name, shared, times, rest = entry
    # Index 0 takes one byte.
    return len(cbor([name, 0, *times] + ([rest] if rest else []))) - 1


def directory(entries):
    level, blocks = 0, []
    chunks = split(sorted(entries), 0, entry_weight)
    made = [(chunk[0][0] if chunk else b"", cid(leaf(chunk))) for chunk in chunks]
    while len(made) > 1:
        level += 1
        chunks = split(made, level, lambda item: len(cbor(list(item))))
        made = [
            (chunk[0][0], cid(cbor({"level": level, "chunks": [list(item) for item in chunk]})))
            for chunk in chunks
        ]
    return made[0][1], level


def entry(name, kind, mode, uid, gid, seconds, nanoseconds, **rest):
    return (name, [kind, mode, uid, gid], [seconds, nanoseconds], rest)


empty, _ = directory([])
print("empty", text(empty))

large = cid(cbor([[b"user.large", b"x" * 5000]]))
kinds, _ = directory(
    [
        entry(b"regular", 1, 0o644, 0, 0, 1700000000, 123456789),
        entry(b"directory", 2, 0o2755, 1000, 1000, 0, 0, dir=empty),
        entry(b"symlink", 3, 0o777, 0, 0, -1, 999999999),
        entry(b"fifo", 4, 0o600, 4294967295, 4294967295, -9223372036854775808, 1),
        entry(b"socket", 5, 0o755, 65534, 65534, 9223372036854775807, 0),
        entry(b"tty", 6, 0o620, 0, 5, 1, 2, rdev=[4, 300]),
        entry(b"disk", 7, 0o660, 0, 6, 1, 2, rdev=[4095, 1048575]),
        entry(b"linked", 1, 0o4755, 0, 0, 1, 2, links=[9223372036854775807, 3]),
        entry(
            b"attributes", 1, 0o644, 0, 0, 1, 2,
            xattrs=[[b"security.capability", b"\1\0\0\2"], [b"user.\xff", b""]],
        ),
        entry(b"large", 1, 0o644, 0, 0, 1, 2, xattrs=large),
        entry(b"\xff\xfe", 1, 0o644, 0, 0, 1, 2),
    ]
)
print("kinds", text(kinds))

tree = Link(base64.b32decode("AFYBEICZSSCDSBS7FFQZ55ASQDF3SMV6KLCW3GOFSZVWLYARCI47BGF354======"))
print("tree", text(tree))
for name, more in (("root", {}), ("root with attributes", {"xattrs": [[b"user.a", b"b"]]})):
    root = {
        "tree": tree,
        "profile": "unixfs-v1-2025",
        "directory": kinds,
        "attributes": [0o1777, 0, 0, 1700000000, 5],
        "portable-manifest": 1,
        **more,
    }
    print(name, text(cid(cbor(root))))



def show(name, entries):
    made, level = directory(entries)
    print(name, text(made), "level", level)


for count in (100, 20000):
    show(
        count,
        [
            entry(
                b"file-%06d" % i, 1, [0o644, 0o600, 0o755][i % 3], 1000 + i % 2, 100,
                1600000000 + i * 7919 % 100000000, i * 7919 % 1000000000,
            )
            for i in range(count)
        ],
    )
show(
    "two levels",
    [entry(b"%07d" % i + b"x" * 243, 1, 0o644, 0, 0, i, 0) for i in range(150000)],
)
