internal import Multiformats

extension CID {
    /// The longest text of a CID that is looked at, in bytes: that of a block of 128 bytes which lies in its own CID, in base 16, and
    /// some. Reading one of base 58 or 36 costs the square of its length.
    static let textLengthMax = 512

    /// Reads what a client wrote; nil for what is no CID.
    init?(ofRequest text: String) {
        guard text.utf8.count <= Self.textLengthMax, let cid = try? CID(parsing: text) else {
            return nil
        }
        self = cid
    }
}
