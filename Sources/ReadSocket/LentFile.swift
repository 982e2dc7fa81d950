internal import Base
internal import Serving

internal import struct SystemPackage.Errno

/// What both sides look at before a descriptor is used: that nobody can write by it, and that the range is there.
enum LentFile {
    /// What is wrong with it; nil where nothing is.
    static func fault(of descriptor: Int32, offset: UInt64, count: UInt64) -> ServeFault? {
        do throws(Errno) {
            let status = try Sys.status(of: descriptor)
            guard FileKind(mode: status.mode) == .regular else {
                return .failed(reason: "what is lent is no regular file")
            }
            guard try Sys.isReadOnly(descriptor) else {
                return .failed(reason: "what is lent is not open for reading alone")
            }
            let (end, isOver) = offset.addingReportingOverflow(count)
            guard !isOver, end <= status.size else {
                return .failed(
                    reason: "the file that is lent has \(status.size) bytes, "
                        + "not \(count) from \(offset) on")
            }
            return nil
        } catch {
            return .failed(reason: "looking at what is lent: \(FailureCause.words(for: error))")
        }
    }
}
