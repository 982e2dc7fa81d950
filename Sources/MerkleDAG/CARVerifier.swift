public import Multiformats

/// Takes a CARv1 in pieces of any length, as they come, and gives on what is verified of it.
///
/// The archive must be one of a single root as `CARWriter` writes it, the root's block first, and
/// each block must have the hash of its CID. Keeps one section and one piece in memory. Says nothing of
/// blocks that are missing.
public struct CARVerifier {
    private let root: CID
    private let header: [UInt8]
    /// What came and was not given on.
    private var pending: [UInt8] = []
    private var isHeaderTaken = false
    private var isRootTaken = false

    public init(root: CID) {
        self.root = root
        header = CAR.encodedHeader(roots: [root])
    }

    /// Takes a piece; returns what can be given on now: the header, or whole sections.
    public mutating func take(_ piece: UnsafeRawBufferPointer) throws(CARError) -> [UInt8] {
        var bytes = pending
        pending = []
        bytes.append(contentsOf: piece)
        let count = try bytes.withRawBytes { (raw) throws(CARError) in try verify(raw) }
        pending = Array(bytes[count...])
        bytes.removeLast(pending.count)
        return bytes
    }

    /// Checks that the archive has come to its end.
    public func finish() throws(CARError) {
        guard isRootTaken, pending.isEmpty else { throw .truncated }
    }

    /// How many of the bytes are verified.
    private mutating func verify(_ bytes: UnsafeRawBufferPointer) throws(CARError) -> Int {
        var end = 0
        if !isHeaderTaken {
            guard bytes.prefix(header.count).elementsEqual(header.prefix(bytes.count)) else {
                throw .badHeader
            }
            guard bytes.count >= header.count else { return 0 }
            isHeaderTaken = true
            end = header.count
        }
        while let section = try CARSectionView.first(
            in: UnsafeRawBufferPointer(rebasing: bytes[end...]))
        {
            try verify(section)
            end += section.byteCount
        }
        return end
    }

    private mutating func verify(_ section: CARSectionView) throws(CARError) {
        guard isRootTaken || section.cid == root else { throw .wrongBytes(root) }
        try section.verify()
        isRootTaken = true
    }
}
