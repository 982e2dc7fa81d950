public import Multiformats

extension ImportProfile {
    /// Reads a file to its end, hashes it, and gives its root, on the calling thread.
    ///
    /// Keeps two chunks and the open DAG nodes in memory, whatever the size of the file.
    ///
    /// - Parameters:
    ///   - metadata: attributes for the root. Leaves are then wrapped, whatever the profile says.
    ///   - read: fills a part of the buffer, at least one byte, and says how many; 0 is the end.
    ///   - emit: gets every block, children first; nil if only the CID is of interest.
    public func importFile<Failure: Error>(
        metadata: UnixFSMetadata = .none,
        read: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int,
        emit: ((CID, [UInt8]) throws(Failure) -> Void)?
    ) throws(Failure) -> DAGRoot {
        let profile = metadata.isEmpty ? self : forMetadata
        var builder = BalancedDAGBuilder(profile: profile, metadata: metadata)
        var current = UnsafeMutableRawBufferPointer.allocate(byteCount: chunkSize, alignment: 64)
        var next = UnsafeMutableRawBufferPointer.allocate(byteCount: chunkSize, alignment: 64)
        defer {
            current.deallocate()
            next.deallocate()
        }
        func emitBlock(_ cid: CID, _ block: [UInt8]) throws(Failure) {
            try emit?(cid, block)
        }

        var currentCount = try Self.fill(current, read: read)
        while currentCount > 0 {
            // Whether this is the only chunk decides where the attributes go.
            let nextCount = currentCount == chunkSize ? try Self.fill(next, read: read) : 0
            let isWholeFile = builder.leafCount == 0 && nextCount == 0
            let leafMetadata = isWholeFile ? metadata : .none
            let chunk = UnsafeRawBufferPointer(rebasing: current[..<currentCount])
            let leaf = profile.leaf(chunk, metadata: leafMetadata)
            if let emit {
                try emit(leaf.cid, profile.leafBlock(chunk, metadata: leafMetadata))
            }
            try builder.append(leaf, emit: emitBlock)
            swap(&current, &next)
            currentCount = nextCount
        }
        return try builder.finish(emit: emitBlock)
    }

    private static func fill<Failure: Error>(
        _ buffer: UnsafeMutableRawBufferPointer,
        read: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
    ) throws(Failure) -> Int {
        var count = 0
        while count < buffer.count {
            let readCount = try read(UnsafeMutableRawBufferPointer(rebasing: buffer[count...]))
            precondition((0...(buffer.count - count)).contains(readCount), "read past the buffer")
            if readCount == 0 { break }
            count += readCount
        }
        return count
    }
}
