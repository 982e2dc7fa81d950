import MerkleDAG
import Multiformats

/// Archives of both versions, with and without checking, in order and by index.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafeRawPointer, _ count: Int) -> CInt {
    let input = Array(UnsafeRawBufferPointer(start: start, count: count))
    let sections = readAll(input)
    readByIndex(input, sections)
    return 0
}

private func open(_ input: [UInt8]) -> CARReader? {
    var offset = 0
    return try? CARReader(isVerifying: false) { buffer in
        // Short pieces, so that every boundary falls somewhere.
        let count = min(buffer.count, input.count - offset, 61)
        buffer.copyBytes(from: input[offset..<(offset + count)])
        offset += count
        return count
    }
}

private func readAll(_ input: [UInt8]) -> [CARSection] {
    guard var reader = open(input) else { return [] }
    var sections: [CARSection] = []
    while let section = try? reader.next() { sections.append(section) }
    if let index = try? reader.readIndex() {
        let encoded = index.encoded()
        precondition(encoded.count <= input.count, "an index is not larger than its archive")
        for section in sections { _ = index.offset(of: section.cid.multihash) }
    }
    return sections
}

private func readByIndex(_ input: [UInt8], _ sections: [CARSection]) {
    let file = try? CARFile { buffer, offset in
        guard offset < UInt64(input.count) else { return 0 }
        let start = Int(offset)
        let count = min(buffer.count, input.count - start)
        buffer.copyBytes(from: input[start..<(start + count)])
        return count
    }
    guard let file else { return }
    for section in sections {
        // As it stands in the archive, right or wrong; and right, or not at all.
        _ = try? file.block(section.cid)
        if let block = try? file.verifiedBlock(section.cid) {
            precondition((try? block.withUnsafeBytes { try section.cid.verify($0) }) != nil)
        }
    }
    for root in file.roots {
        try? file.forEachBlock(below: root, blockCountMax: 1000) { cid, block in
            precondition((try? block.withUnsafeBytes { try cid.verify($0) }) != nil)
        }
    }
}
