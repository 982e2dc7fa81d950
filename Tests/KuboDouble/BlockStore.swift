internal import Foundation
internal import Multiformats

/// Blocks by their hash, in memory or, one file each, below a directory.
///
/// A block is whole or not there, also after a kill; nothing is synced, as a node's default
/// datastore does not either.
///
/// `@unchecked Sendable`: everything is read and written with `condition` locked.
final class BlockStore: @unchecked Sendable {
    private let condition = NSCondition()
    private var blocks: [Multihash: [UInt8]] = [:]
    /// Where the files are; the blocks in `blocks` are empty then.
    private let directory: String?
    private var isFull = false
    private var byteCount = 0

    init(directory: String?) throws {
        self.directory = directory
        guard let directory else { return }
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
            guard let decoded = try? Multibase.decode(name).bytes,
                let multihash = try? Multihash(bytes: decoded)
            else { continue }
            let attributes = try FileManager.default.attributesOfItem(
                atPath: directory + "/" + name)
            byteCount += (attributes[.size] as? Int) ?? 0
            blocks[multihash] = []
        }
    }

    var count: Int { locked { blocks.count } }
    var totalByteCount: Int { locked { byteCount } }
    var multihashes: [Multihash] { locked { Array(blocks.keys) } }

    func setFull(_ isFull: Bool) { locked { self.isFull = isFull } }

    func contains(_ multihash: Multihash) -> Bool {
        locked { blocks[multihash] != nil }
    }

    func block(_ multihash: Multihash) -> [UInt8]? {
        condition.lock()
        defer { condition.unlock() }
        guard let block = blocks[multihash] else { return nil }
        guard let directory else { return block }
        let path = Self.path(multihash, in: directory)
        return (try? Data(contentsOf: URL(fileURLWithPath: path))).map { [UInt8]($0) }
    }

    /// - Returns: whether the block is new here.
    @discardableResult
    func put(_ multihash: Multihash, _ block: [UInt8]) throws(Halt) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        guard blocks[multihash] == nil else { return false }
        guard !isFull else { throw .failed("write blocks: no space left on device") }
        if let directory {
            do {
                try Data(block).write(
                    to: URL(fileURLWithPath: Self.path(multihash, in: directory)),
                    options: .atomic)
            } catch {
                throw .failed("write blocks: \(error)")
            }
            blocks[multihash] = []
        } else {
            blocks[multihash] = block
        }
        byteCount += block.count
        condition.broadcast()
        return true
    }

    func remove(_ multihash: Multihash) {
        condition.lock()
        defer { condition.unlock() }
        guard let block = blocks.removeValue(forKey: multihash) else { return }
        guard let directory else {
            byteCount -= block.count
            return
        }
        let path = Self.path(multihash, in: directory)
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        byteCount -= (attributes?[.size] as? Int) ?? 0
        try? FileManager.default.removeItem(atPath: path)
    }

    /// Waits until the block is there.
    ///
    /// - Returns: false if it is not, and the moment came or `isOver` says so (asked now and then).
    func wait(for multihash: Multihash, until moment: Date?, isOver: () -> Bool) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        while blocks[multihash] == nil {
            let now = Date()
            if isOver() { return false }
            if let moment, now >= moment { return false }
            let next = now.addingTimeInterval(0.05)
            _ = condition.wait(until: moment.map { min($0, next) } ?? next)
        }
        return true
    }

    private static func path(_ multihash: Multihash, in directory: String) -> String {
        directory + "/" + Multibase.base32.encode(multihash.bytes)
    }

    private func locked<Result>(_ body: () -> Result) -> Result {
        condition.lock()
        defer { condition.unlock() }
        return body()
    }
}
