import MerkleDAG
import Multiformats
import PortableManifest

/// Portable manifests that no writer makes.
///
/// The first byte chooses. Odd: the rest is one block. Even: it is a recipe for blocks whose hashes and DAG-CBOR
/// are right, each of which may link to those before it, so that the readers come to what lies behind those.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    guard count > 0 else { return 0 }
    let input = UnsafeRawBufferPointer(start: start, count: count)
    let rest = UnsafeRawBufferPointer(rebasing: input[1...])
    var trial = PortableManifestTrial()
    guard input[0] & 1 == 0 else {
        let block = Array(rest)
        let cid = CID(codec: .dagCBOR, multihash: .sha256(of: block))
        trial.blocks[cid] = block
        _ = trial.read(cid)
        return 0
    }
    var recipe = Recipe(bytes: rest)
    var cids: [CID] = []
    while !recipe.isAtEnd, cids.count < 32 {
        let block = recipe.block(above: cids).encoded
        let cid = CID(codec: .dagCBOR, multihash: .sha256(of: block))
        trial.blocks[cid] = block
        cids.append(cid)
    }
    for cid in cids.suffix(4) { _ = trial.read(cid) }
    return 0
}

/// Takes numbers and names from the input; past its end everything is zero.
private struct Recipe {
    let bytes: UnsafeRawBufferPointer
    var offset = 0

    init(bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    var isAtEnd: Bool { offset >= bytes.count }

    mutating func byte() -> UInt8 {
        guard !isAtEnd else { return 0 }
        defer { offset += 1 }
        return bytes[offset]
    }

    mutating func some(countMax: Int) -> [UInt8] {
        let count = min(Int(byte()), countMax, bytes.count - min(offset, bytes.count))
        return (0..<count).map { _ in byte() }
    }

    /// A small number, or one of those at which something ends.
    mutating func number() -> DAGCBOR {
        let byte = byte()
        switch byte {
        case 0xff: return .unsigned(.max)
        case 0xfe: return .unsigned(UInt64(Int64.max))
        case 0xfd: return .unsigned(1 << 32)
        case 0xfc: return .unsigned(UInt64(UInt32.max))
        case 0xfb: return .unsigned(0o7777)
        case 0xfa: return .unsigned(999_999_999)
        case 0xf9: return .negative(UInt64(Int64.max))
        case 0xf8: return .negative(0)
        default: return .unsigned(UInt64(byte))
        }
    }

    mutating func list(countMax: UInt8, _ value: (inout Recipe) -> DAGCBOR) -> DAGCBOR {
        .list((0..<byte() % (countMax + 1)).map { _ in value(&self) })
    }

    mutating func link(_ cids: [CID]) -> DAGCBOR {
        guard let last = cids.last else { return .link(.raw(sha256: [])) }
        let byte = Int(byte())
        return .link(byte == 0xff ? .dagPB(last.multihash, version: 0) : cids[byte % cids.count])
    }

    mutating func attributes(_ cids: [CID]) -> DAGCBOR {
        guard byte() & 3 != 0 else { return link(cids) }
        return list(countMax: 3) { recipe in
            let space = ["user.", "security.", "trusted.", "system.posix_acl_access"]
            let name = Array(space[Int(recipe.byte() & 3)].utf8) + recipe.some(countMax: 3)
            // Enough for a block of its own.
            let count = recipe.byte() == 0xff ? 5_000 : Int(recipe.byte())
            return .list([.bytes(name), .bytes([UInt8](repeating: 1, count: count))])
        }
    }

    mutating func entry(_ cids: [CID]) -> DAGCBOR {
        var values: [DAGCBOR] = [.bytes(some(countMax: 4)), number(), number(), number()]
        let fields = byte()
        var rest: [DAGCBOR.Entry] = []
        if fields & 1 != 0 { rest.append(.init("dir", link(cids))) }
        if fields & 2 != 0 { rest.append(.init("rdev", .list([number(), number()]))) }
        if fields & 4 != 0 { rest.append(.init("links", .list([number(), number()]))) }
        if fields & 8 != 0 { rest.append(.init("xattrs", attributes(cids))) }
        if fields & 0xf0 == 0xf0 { rest.append(.init("zz", .null)) }
        if !rest.isEmpty { values.append(.map(rest)) }
        return .list(values)
    }

    mutating func block(above cids: [CID]) -> DAGCBOR {
        switch byte() & 7 {
        case 0:
            return .map([
                .init("level", number()),
                .init(
                    "chunks",
                    list(countMax: 6) { .list([.bytes($0.some(countMax: 4)), $0.link(cids)]) }),
            ])
        case 1:
            return attributes(cids)
        case 2:
            let tree = CID.dagPB(.sha256(of: []), version: Int(byte() & 1))
            return .map([
                .init("tree", .link(tree)),
                .init("profile", .text(String(decoding: some(countMax: 8), as: UTF8.self))),
                .init("directory", link(cids)), .init("xattrs", attributes(cids)),
                .init("attributes", .list((0..<5).map { _ in number() })),
                .init("portable-manifest", .unsigned(UInt64(1 + byte() / 255))),
            ])
        default:
            return .map([
                .init(
                    "common",
                    list(countMax: 4) {
                        .list([$0.number(), $0.number(), $0.number(), $0.number()])
                    }),
                .init("entries", list(countMax: 8) { $0.entry(cids) }),
            ])
        }
    }
}
