internal import CFuse

/// What libfuse 3.14 leaves out of the answer to INIT, put in on its way to the kernel.
///
/// libfuse 3.14 to 3.16 never send PARALLEL_DIROPS although they count it as wanted, and 3.14
/// knows neither HANDLE_KILLPRIV_V2 nor SETXATTR_EXT nor any flag of the upper word. The answer's
/// layout stands in `KernelProtocol.swift`. Only bits that the kernel offered are set.
package struct InitOffer: Sendable {
    /// The number of the INIT request.
    package let unique: UInt64
    /// What the kernel offered: flags, and flags2 above them where FUSE_INIT_EXT says it is meant.
    package let flags: UInt64

    /// The bits that are wanted beside those that libfuse sets, PASSTHROUGH left out.
    static let wanted =
        InitFlag.parallelDirectoryOperations | InitFlag.handleKillPrivileges
        | InitFlag.extendedSetExtendedAttribute | InitFlag.directIOAllowsMappings

    /// Reads the offer from an INIT request; nil where that is too short.
    package init?(_ request: Request) {
        guard let low = request.word(at: 52) else { return nil }
        unique = request.header.unique
        var flags = UInt64(low)
        if flags & InitFlag.extended != 0, let high = request.word(at: 56) {
            flags |= UInt64(high) << 32
        }
        self.flags = flags
    }

    private static let flagsOffset = 12
    private static let flags2Offset = 32
    private static let maxStackDepthOffset = 36
    private static let replyByteCount = 64

    /// Adds what is wanted and offered; returns all the bits of the answer, or nil where it is not
    /// the full answer of protocol 7.23 and later.
    package func mend(
        _ reply: UnsafeMutableRawBufferPointer, wantsPassthrough: Bool, wantsRings: Bool = false
    ) -> UInt64? {
        guard reply.count >= Self.replyByteCount else { return nil }
        let low = reply.loadUnaligned(fromByteOffset: Self.flagsOffset, as: UInt32.self)
        let high = reply.loadUnaligned(fromByteOffset: Self.flags2Offset, as: UInt32.self)
        var answer = UInt64(low) | UInt64(high) << 32
        answer |= flags & (Self.wanted | InitFlag.extended)
        if wantsRings { answer |= flags & InitFlag.overIOUring }
        if wantsPassthrough, flags & InitFlag.passthrough != 0 {
            answer |= InitFlag.passthrough
            // One filesystem below; another one, like overlayfs, may still be stacked upon this.
            reply.storeBytes(of: 1, toByteOffset: Self.maxStackDepthOffset, as: UInt32.self)
        }
        reply.storeBytes(
            of: UInt32(truncatingIfNeeded: answer), toByteOffset: Self.flagsOffset, as: UInt32.self)
        reply.storeBytes(
            of: UInt32(truncatingIfNeeded: answer >> 32), toByteOffset: Self.flags2Offset,
            as: UInt32.self)
        return answer
    }
}
