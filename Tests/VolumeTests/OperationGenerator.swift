import Base
import Glibc
import Volume

/// Makes up operations that have something to do with what is there, so that most succeed and
/// names collide; the same seed and the same model give the same operations.
struct OperationGenerator {
    private var random: SeededGenerator
    /// Offsets and sizes near to which something changes inside.
    private let edges: [Int]
    /// No range ends beyond it.
    private let sizeMax: Int
    /// Modes of fallocate(2) that the disk below has.
    private let allocateModes: [Int32]
    var nodesMax = 48
    var handlesMax = 12
    /// How many of 100 operations make things durable.
    var synchronizePercent = 3
    /// Whether writers may lose set-id bits.
    var clearsSetID = true
    /// How many of 100 operations open a file, one that is open already where there is one; twice
    /// as many more are about the bytes of open files.
    var reopenPercent = 0
    /// How many of 1,000 operations make a snapshot or delete one.
    var snapshotPermille = 0
    private var snapshotCount = 0
    /// Whether CIDs are asked for.
    var asksForCIDs = true

    init(seed: UInt64, inlineSizeMax: Int, chunkSize: Int) {
        random = SeededGenerator(seed: seed)
        edges = [0, 0, 1, 4096, inlineSizeMax, inlineSizeMax, chunkSize]
        sizeMax = chunkSize + 40_000
        // Nothing, KEEP_SIZE, PUNCH_HOLE, two that are refused, and ZERO_RANGE.
        allocateModes = [0, 1, 3, 3, 2, 8] + (diskHasZeroRange ? [16, 17] : [])
    }

    private static let names: [FileName] = [
        "a", "b", "c", "d", "e", FileName([0xff, 0xfe, 0x80]), FileName("\u{e4}\u{1f4e6}"),
        FileName([UInt8](repeating: UInt8(ascii: "n"), count: 255)),
    ]
    private static let badNames: [FileName] = [
        "", ".", "..", "x/y", FileName([0x78, 0]),
        FileName([UInt8](repeating: UInt8(ascii: "n"), count: 256)),
    ]
    private static let attributeNames: [FileName] = [
        "user.a", "user.b", "trusted.t", "security.s", "other.o", "user.ipfs.cid",
    ]

    private mutating func name() -> FileName { random.pick(Self.names) }

    private mutating func newName() -> FileName {
        random.oneIn(60) ? random.pick(Self.badNames) : name()
    }

    private mutating func inode(_ model: ModelFilesystem) -> UInt64 {
        random.oneIn(200) ? 1 << 40 : random.pick(model.order)
    }

    private mutating func inode(_ model: ModelFilesystem, _ kind: FileKind) -> UInt64 {
        let fitting = model.order.filter { model.nodes[$0]?.kind == kind }
        return fitting.isEmpty || random.oneIn(20) ? inode(model) : random.pick(fitting)
    }

    private mutating func directory(_ model: ModelFilesystem) -> UInt64 {
        inode(model, .directory)
    }

    /// A name that is there, mostly.
    private mutating func entry(_ model: ModelFilesystem) -> (FileName, UInt64) {
        for _ in 0..<4 {
            let parent = directory(model)
            guard let node = model.nodes[parent], !node.entries.isEmpty else { continue }
            let names = model.listing(of: node).map(\.name)
            return (random.pick(names), parent)
        }
        return (name(), directory(model))
    }

    private mutating func offset() -> Int {
        let edge = random.pick(edges)
        switch random.below(4) {
        case 0: return edge
        case 1: return max(0, edge - 1 - random.below(3))
        case 2: return edge + 1 + random.below(3)
        default: return random.below(min(sizeMax, edge * 2 + 10_000))
        }
    }

    private mutating func length() -> Int {
        switch random.below(12) {
        case 0: return random.pick(edges)
        case 1: return random.below(sizeMax / 2)
        case 2: return 0
        case 3...5: return 4096
        default: return 1 + random.below(3000)
        }
    }

    private mutating func mode() -> UInt32 {
        // Most files with set-id bits have no backing file.
        if reopenPercent > 0, !random.oneIn(4) { return 0o644 }
        return random.pick([0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o2644, 0o1777, 0o7777, 0])
    }

    private mutating func clears() -> Bool { random.oneIn(4) && clearsSetID }

    private mutating func handle(_ model: ModelFilesystem) -> Int {
        model.handles.isEmpty || random.oneIn(100) ? 999_999 : random.pick(model.handles).number
    }

    mutating func next(_ model: ModelFilesystem) -> Operation {
        if snapshotPermille > 0, random.below(1000) < snapshotPermille {
            let names = model.snapshots.keys.sorted()
            if names.count > 4 || !names.isEmpty && random.oneIn(3) {
                return .deleteSnapshot(random.pick(names))
            }
            snapshotCount += 1
            return .snapshot("s\(snapshotCount)")
        }
        if random.below(100) < synchronizePercent {
            switch random.below(4) {
            case 0: return .synchronizeDirectory(directory(model))
            case 1: return .synchronizeAll
            default: return .synchronize(handle(model), dataOnly: random.oneIn(2))
            }
        }
        if random.below(100) < reopenPercent, model.handles.count <= handlesMax {
            let inode =
                random.oneIn(4) || model.handles.isEmpty
                ? inode(model, .regular) : random.pick(model.handles).inode
            return .open(inode, flags: openFlags())
        }
        if random.below(100) < reopenPercent * 2, !model.handles.isEmpty {
            return random.oneIn(2)
                ? change(of: handle(model), model)
                : .read(handle(model), at: UInt64(offset()), count: length())
        }
        if model.order.count > nodesMax || random.oneIn(8) { return removal(model) }
        if model.handles.count > handlesMax { return .release(random.pick(model.handles).number) }
        switch random.below(11) {
        case 0...1: return creation(model)
        case 2: return naming(model)
        case 3...6: return change(of: handle(model), model)
        case 7: return attributeChange(model)
        default: return question(model)
        }
    }

    private mutating func openFlags() -> Int32 {
        random.pick([
            O_RDONLY, O_RDONLY, O_RDONLY, O_RDWR, O_RDWR, O_WRONLY, O_RDWR | O_TRUNC,
            O_RDWR | O_APPEND, O_WRONLY | O_APPEND, O_RDWR | O_DSYNC,
        ])
    }

    private mutating func removal(_ model: ModelFilesystem) -> Operation {
        let (name, parent) = entry(model)
        switch random.below(5) {
        case 0...1: return .unlink(name, in: parent)
        case 2: return .removeDirectory(name, in: parent)
        case 3: return .forget(inode(model), count: UInt64(1 + random.below(12)))
        default:
            return model.handles.isEmpty
                ? .unlink(name, in: parent) : .release(random.pick(model.handles).number)
        }
    }

    private mutating func creation(_ model: ModelFilesystem) -> Operation {
        let parent = directory(model)
        switch random.below(9) {
        case 0:
            return .makeNode(
                newName(), in: parent, .regular, mode: mode(), rdev: 0, umask: 0o022)
        case 1:
            let kind = random.pick([FileKind.fifo, .socket, .characterDevice, .blockDevice])
            return .makeNode(newName(), in: parent, kind, mode: mode(), rdev: 0x0105, umask: 0)
        case 2...3: return .makeDirectory(newName(), in: parent, mode: mode(), umask: 0o027)
        case 4:
            return .makeSymlink(
                newName(), in: parent,
                // Any bytes but NUL, which no path has.
                target: content(seed: random.next(), count: 1 + random.below(80)).map { $0 | 1 })
        case 5: return .makeTemporary(in: parent, mode: mode())
        default:
            let flags = random.pick([O_RDWR, O_RDWR | O_EXCL, O_RDWR | O_TRUNC, O_WRONLY])
            return .create(newName(), in: parent, mode: mode(), flags: flags)
        }
    }

    private mutating func naming(_ model: ModelFilesystem) -> Operation {
        if random.oneIn(4) {
            return .link(inode(model, .regular), as: newName(), in: directory(model))
        }
        let (name, parent) = entry(model)
        let (other, otherParent) = random.oneIn(2) ? entry(model) : (newName(), directory(model))
        return .rename(
            name, in: parent, to: other, inNew: otherParent,
            flags: random.pick([0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6]))
    }

    private mutating func change(of handle: Int, _ model: ModelFilesystem) -> Operation {
        // A few seeds make equal content likely.
        let seed = UInt64(random.below(3))
        switch random.below(13) {
        case 0...3:
            return .write(
                handle, at: UInt64(offset()), seed: seed, count: length(),
                clearSetID: clears())
        case 4...5:
            return .write(handle, at: 0, seed: 7, count: random.pick(edges), clearSetID: false)
        case 6...7:
            return .truncate(
                inode(model, .regular), to: UInt64(offset()), clearSetID: clears())
        case 8...9:
            return .allocate(
                handle, mode: random.pick(allocateModes), offset: UInt64(offset()),
                length: UInt64(length()))
        case 10:
            return .copyRange(
                handle, at: 0, to: self.handle(model), atNew: 0, length: UInt64(Int64.max))
        case 11:
            return .copyRange(
                handle, at: UInt64(offset()), to: self.handle(model), atNew: UInt64(offset()),
                length: UInt64(length()))
        default:
            return .open(inode(model, .regular), flags: random.pick([O_RDWR, O_RDWR | O_TRUNC]))
        }
    }

    private mutating func attributeChange(_ model: ModelFilesystem) -> Operation {
        let target = inode(model)
        switch random.below(7) {
        case 0: return .setMode(target, mode())
        case 1:
            return .setOwner(
                target, uid: random.oneIn(2) ? UInt32(random.below(5)) : nil,
                gid: random.oneIn(2) ? UInt32(random.below(5)) : nil)
        case 2:
            return .setTimes(
                target, accessed: Int64(bitPattern: random.next()),
                modified: Int64(bitPattern: random.next()))
        case 3...5:
            return .setAttribute(
                target, random.pick(Self.attributeNames),
                content(seed: random.next(), count: random.below(300)),
                flags: random.pick([0, 0, 1, 2]))
        default: return .removeAttribute(target, random.pick(Self.attributeNames))
        }
    }

    private mutating func question(_ model: ModelFilesystem) -> Operation {
        switch random.below(12) {
        case 0...1:
            let (name, parent) = entry(model)
            return .lookup(name, in: parent)
        case 2: return .attributes(inode(model))
        case 3...5: return .read(handle(model), at: UInt64(offset()), count: length())
        case 6:
            return random.oneIn(4)
                ? .listWithAttributes(directory(model))
                : .list(directory(model), portion: random.pick([1, 2, 3, 1000]))
        case 7: return .readSymlink(inode(model, .symlink))
        case 8: return .getAttribute(inode(model), random.pick(Self.attributeNames.dropLast()))
        case 9: return .listAttributes(inode(model))
        case 10:
            return .seek(
                handle(model), from: UInt64(offset()),
                whence: random.pick([SEEK_DATA, SEEK_HOLE]))
        default:
            return asksForCIDs
                ? .cid(random.oneIn(2) ? 1 : inode(model))
                : .open(inode(model, .regular), flags: O_RDONLY)
        }
    }
}
