"""The measuring part of Benchmarks/kubo, which starts the node and the mounts that this works on."""

import argparse
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import time

MIB = 1 << 20
COMMON = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Mount", "common.sh")
OWN = "registryfs"
MFS, ADD, RPC_ADD, CAT = "ipfs mount", "ipfs add", "RPC add", "ipfs cat"


class Work:
    """One line of the table."""

    def __init__(self, name, unit, rivals, bounds):
        self.name = name
        self.unit = unit
        # The better of these is what Kubo can do.
        self.rivals = rivals
        # Who must be reached, and how far; None stands for the better rival.
        self.bounds = bounds
        # By target, a figure for each round.
        self.samples = {}

    def add(self, target, value):
        self.samples.setdefault(target, []).append(value)

    def ratios(self, reference):
        """Round by round; a reference of None is the better rival of that round."""
        rounds = []
        for index, own in enumerate(self.samples.get(OWN, [])):
            names = self.rivals if reference is None else [reference]
            others = [
                self.samples[name][index] for name in names if index < len(self.samples.get(name, []))
            ]
            if others:
                rounds.append(own / max(others))
        return rounds

    def misses(self):
        for reference, limit in self.bounds:
            ratios = self.ratios(reference)
            if ratios and statistics.median(ratios) < limit:
                yield reference, limit


def call(*arguments, **options):
    return subprocess.run(
        arguments, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options
    ).stdout.strip()


class Bench:
    def __init__(self, options):
        self.options = options
        self.disk = options.disk_name
        self.size = (64 if options.quick else 512) * MIB
        self.count = 200 if options.quick else 1000
        self.serial = 0
        self.work_at = lambda *names: os.path.join(options.work, *names)
        self.roots = {
            OWN: self.work_at("mount"), self.disk: self.work_at("disk"), MFS: self.work_at("mfs"),
        }
        name = f"{self.size // MIB} MiB"
        both = [MFS, ADD]
        on_disk = [(self.disk, 0.95), (None, 1)]
        into_node = [(None, 1), (RPC_ADD, 1)]
        self.write_local = Work(f"write {name}, safe here", "MiB/s", both, on_disk)
        self.write_blocks = Work(f"write {name}, blocks in Kubo", "MiB/s", both, into_node)
        self.write_root = Work(f"write {name}, sync", "MiB/s", both, into_node)
        self.read = Work(f"read {name}, cold", "MiB/s", [MFS, CAT], [(None, 1)])
        self.small_local = Work(f"{self.count} x 1 KiB, safe here", "files/s", both, on_disk)
        self.small_root = Work(f"{self.count} x 1 KiB, sync", "files/s", both, [(None, 1)])
        self.small_bulk = Work(f"{self.count} x 1 KiB, no fsync, sync", "files/s", both, [(None, 1)])
        self.works = [
            self.write_local, self.write_blocks, self.write_root, self.read,
            self.small_local, self.small_root, self.small_bulk,
        ]

    # What is written

    def fresh_name(self):
        self.serial += 1
        return f"file{self.serial}"

    def fresh_file(self):
        """A file in memory with bytes that were never before."""
        path = os.path.join(self.options.scratch, "content")
        with open(path, "wb") as file:
            for _ in range(self.size // (4 * MIB)):
                file.write(os.urandom(4 * MIB))
        return path

    def fresh_directory(self):
        path = os.path.join(self.options.scratch, "small")
        shutil.rmtree(path, ignore_errors=True)
        os.mkdir(path)
        for number in range(self.count):
            with open(os.path.join(path, str(number)), "wb") as file:
                file.write(os.urandom(1024))
        return path

    # Steps; each returns seconds

    def write(self, source, path):
        """Writes 1 MiB a call, and calls fsync."""
        with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            with memoryview(content) as view:
                begin = time.perf_counter()
                target = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                offset = 0
                while offset < len(view):
                    offset += os.write(target, view[offset:offset + MIB])
                os.fsync(target)
                seconds = time.perf_counter() - begin
        os.close(target)
        return seconds

    def write_small(self, source, path, syncs=True):
        """Creates, writes, syncs and closes each file."""
        contents = []
        for number in range(self.count):
            with open(os.path.join(source, str(number)), "rb") as file:
                contents.append(file.read())
        begin = time.perf_counter()
        os.mkdir(path)
        for number, content in enumerate(contents):
            target = os.open(f"{path}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            os.write(target, content)
            if syncs:
                os.fsync(target)
            os.close(target)
        return time.perf_counter() - begin

    def read_file(self, path):
        buffer = bytearray(MIB)
        begin = time.perf_counter()
        source = os.open(path, os.O_RDONLY)
        total = 0
        while (count := os.readv(source, [buffer])) > 0:
            total += count
        seconds = time.perf_counter() - begin
        os.close(source)
        if total != self.size:
            sys.exit(f"kubo.py: read {total} bytes of {path}")
        return seconds

    def run(self, *arguments):
        begin = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - begin

    def sync(self):
        """Waits until the tree is published, and looks whether it is."""
        begin = time.perf_counter()
        root = call(self.options.registryfs, "sync", self.roots[OWN])
        seconds = time.perf_counter() - begin
        shown = call(self.options.ipfs, "files", "stat", "--hash", "/bench")
        if root != shown:
            sys.exit(f"kubo.py: sync said {root}, and the node shows {shown}")
        return seconds

    def until_blocks_sent(self):
        """By `status`, which tells to a tenth of a second."""
        begin = time.perf_counter()
        while True:
            mount = json.loads(call(self.options.registryfs, "status", "--json", self.roots[OWN]))
            mount = mount["mounts"][0]
            if mount["unsealedFiles"] == 0 and mount["kubo"]["outboxFiles"] == 0:
                return time.perf_counter() - begin
            time.sleep(0.05)

    def settle(self, drop=False):
        os.sync()
        if drop:
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write("3")
        time.sleep(0.3)

    def note(self, work, target, amount, seconds):
        work.add(target, amount / seconds)
        print(f"{work.name}: {target}: {amount / seconds:.1f} {work.unit}", file=sys.stderr)

    # Groups of lines

    def alternate(self, steps, number):
        """Runs the steps of a round; another one is first in each."""
        for index in range(len(steps)):
            self.settle()
            steps[(index + number) % len(steps)]()

    def writes(self, number):
        size = self.size / MIB

        def own():
            self.published = self.fresh_name()
            local = self.write(self.fresh_file(), os.path.join(self.roots[OWN], self.published))
            self.note(self.write_local, OWN, size, local)
            self.note(self.write_root, OWN, size, local + self.sync())

        def own_blocks():
            path = os.path.join(self.roots[OWN], self.fresh_name())
            local = self.write(self.fresh_file(), path)
            self.note(self.write_blocks, OWN, size, local + self.until_blocks_sent())
            self.sync()

        def disk():
            path = os.path.join(self.roots[self.disk], self.fresh_name())
            self.note(self.write_local, self.disk, size, self.write(self.fresh_file(), path))

        def in_node(target, seconds):
            for work in (self.write_local, self.write_blocks, self.write_root):
                work.add(target, size / seconds)
            print(f"write: {target}: {size / seconds:.1f} MiB/s", file=sys.stderr)

        def mfs():
            path = os.path.join(self.roots[MFS], self.fresh_name())
            in_node(MFS, self.write(self.fresh_file(), path))

        def add():
            source = self.fresh_file()
            in_node(ADD, self.run(self.options.ipfs, "add", "-Q", "--progress=false", source))

        def rpc_add():
            source = self.fresh_file()
            address = f"http://{self.options.rpc}/api/v0/add?pin=false&quieter=true"
            in_node(RPC_ADD, self.run(
                "curl", "-fsS", "-X", "POST", "-H", "Expect:", "-F", f"file=@{source}", address))

        self.alternate([own, disk, mfs, add, own_blocks, rpc_add], number)

    def reads(self, number):
        """Of one file of the first mount, so that all read the same blocks."""
        size = self.size / MIB
        second, state = self.work_at("second"), self.work_at(f"state-second{number}")

        def own():
            call(
                "bash", "-c", 'source "$0"; with_ring_switch Y "$@"', COMMON,
                self.options.registryfs, "mount", "--state-dir", state, "--kubo", self.options.rpc,
                "--mfs-path", "/bench", "--from-mfs", second)
            self.settle(drop=True)
            seconds = self.read_file(os.path.join(second, self.published))
            self.note(self.read, OWN, size, seconds)
            call(self.options.registryfs, "unmount", second)
            shutil.rmtree(state)

        def mfs():
            self.settle(drop=True)
            path = os.path.join(self.roots[MFS], "bench", self.published)
            self.note(self.read, MFS, size, self.read_file(path))

        def cat():
            content = os.getxattr(os.path.join(self.roots[OWN], self.published), "ipfs.cid")
            self.settle(drop=True)
            begin = time.perf_counter()
            subprocess.run(
                [self.options.ipfs, "cat", content.decode()], check=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL)
            self.note(self.read, CAT, size, time.perf_counter() - begin)

        self.alternate([own, mfs, cat], number)

    def small_files(self, number):
        def own():
            path = os.path.join(self.roots[OWN], self.fresh_name())
            local = self.write_small(self.fresh_directory(), path)
            self.note(self.small_local, OWN, self.count, local)
            self.note(self.small_root, OWN, self.count, local + self.sync())

        def own_bulk():
            path = os.path.join(self.roots[OWN], self.fresh_name())
            local = self.write_small(self.fresh_directory(), path, syncs=False)
            self.note(self.small_bulk, OWN, self.count, local + self.sync())

        def disk():
            path = os.path.join(self.roots[self.disk], self.fresh_name())
            self.note(
                self.small_local, self.disk, self.count,
                self.write_small(self.fresh_directory(), path))

        def in_node(target, seconds):
            for work in (self.small_local, self.small_root, self.small_bulk):
                work.add(target, self.count / seconds)
            print(f"small: {target}: {self.count / seconds:.1f} files/s", file=sys.stderr)

        def mfs():
            path = os.path.join(self.roots[MFS], self.fresh_name())
            in_node(MFS, self.write_small(self.fresh_directory(), path))

        def add():
            source = self.fresh_directory()
            in_node(ADD, self.run(self.options.ipfs, "add", "-r", "-Q", "--progress=false", source))

        self.alternate([own, disk, mfs, add, own_bulk], number)

    def measure(self):
        # The first write and the first root pay for what is made once.
        with open(os.path.join(self.roots[OWN], "first"), "wb") as file:
            file.write(os.urandom(4 * MIB))
        self.sync()
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", file=sys.stderr)
            self.writes(number)
            self.reads(number)
            self.small_files(number)

    # What comes out

    @staticmethod
    def spread(values, digits=None):
        def figure(value):
            if digits is not None:
                return f"{value:.{digits}f}"
            return f"{value:.0f}" if value >= 100 else f"{value:.1f}"

        if not values:
            return ""
        middle = figure(statistics.median(values))
        return f"{middle} ({figure(min(values))}-{figure(max(values))})"

    def table(self):
        columns = [OWN, self.disk, MFS, ADD, RPC_ADD, CAT]
        rows = [
            ["work", "unit"] + columns
            + [f"{OWN} / {self.disk}", f"{OWN} / better of Kubo's", "must hold"]
        ]
        for work in self.works:
            missed = list(work.misses())
            verdicts = []
            for reference, limit in work.bounds:
                mark = "MISS" if (reference, limit) in missed else "pass"
                verdicts.append(f"{limit:.2f} of {reference or 'Kubo'} {mark}")
            rows.append(
                [work.name, work.unit]
                + [self.spread(work.samples.get(target)) for target in columns]
                + [self.spread(work.ratios(self.disk), 2), self.spread(work.ratios(None), 2)]
                + [", ".join(verdicts)])
        widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
        told = ["commit", "kubo", "kernel", "cpus", "disk", "load"]
        print("; ".join(f"{key}: {self.facts[key]}" for key in told if key in self.facts) + "\n")
        for row in rows:
            cells = [
                cell.ljust(width) if index in (0, 1, len(row) - 1) else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths))
            ]
            print("  ".join(cells).rstrip())
        print(f"\nMedians (lowest-highest) of {self.options.rounds} rounds; higher is better.")

    def write_json(self, path):
        works = []
        for work in self.works:
            entry = {
                "name": work.name, "group": "kubo", "unit": work.unit, "higherIsBetter": True,
                "samples": work.samples,
            }
            for key, reference in (("ratio", self.disk), ("ratioToKubo", None)):
                ratios = work.ratios(reference)
                if ratios:
                    entry[key] = {
                        "median": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
                    }
            missed = list(work.misses())
            entry["bounds"] = [
                {
                    "atLeast": limit, "of": reference or "the better of Kubo's",
                    "value": statistics.median(work.ratios(reference)),
                    "holds": (reference, limit) not in missed,
                }
                for reference, limit in work.bounds
            ]
            works.append(entry)
        machine = dict(
            self.facts, rounds=str(self.options.rounds), quick=str(self.options.quick).lower())
        with open(path, "w") as file:
            json.dump(
                {"machine": machine, "disk": self.disk, "mount": OWN, "works": works}, file, indent=2)
            file.write("\n")

    @property
    def facts(self):
        return dict(fact.split("=", 1) for fact in self.options.fact)


def main():
    parser = argparse.ArgumentParser()
    for name in ("registryfs", "ipfs", "rpc", "work", "scratch", "disk-name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json")
    parser.add_argument("--fact", action="append", default=[])
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    bench = Bench(options)
    bench.measure()
    bench.table()
    if options.json:
        bench.write_json(options.json)
    if options.check and any(True for work in bench.works for _ in work.misses()):
        sys.exit(1)


main()
