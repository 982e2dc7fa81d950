import Base
import FoundationEssentials
import FuseSession
import Multiformats
import Volume

import struct SystemPackage.Errno

extension Volume {
    /// Does what a request asks of a volume alone, mounted or not.
    ///
    /// - Precondition: the command is none of `status`, `sync`, `unmount` and `grafts`, which ask a daemon, and `importTree` (`TreeImport`).
    func answer(
        _ request: ControlRequest, data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> ControlResult {
        // What serves requests must not wait for it.
        try background.run { () throws(Failure) in try answerNow(request, data) }
    }

    private func answerNow(
        _ request: ControlRequest, _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) -> ControlResult {
        switch request.command {
        case .cid:
            return try atPlace(of: request) { (inode, names) throws(Errno) in
                ControlResult(cid: try cid(of: inode).description)
            }
        case .inspect:
            return try atPlace(of: request) { (inode, names) throws(Errno) in
                var found = PathReport(
                    try report(of: inode, leafCountMax: PathReport.leavesMax), name: names.last)
                found.graft = graftOrigin(of: inode)
                return ControlResult(report: found)
            }
        case .block:
            let cid = try ContentID.parse(request.cid ?? "")
            let bytes = try naming(cid) { () throws(VolumeError) in try block(cid) }
            var failure: Failure?
            bytes.withUnsafeBytes { buffer in
                do throws(Failure) { try data(buffer) } catch { failure = error }
            }
            if let failure { throw failure }
            return ControlResult()
        case .exportCAR:
            try export(try ContentID.parse(request.cid ?? ""), data)
            return ControlResult()
        case .snapshot:
            guard let asked = request.snapshot else {
                throw Failure("it is not said what is asked")
            }
            return ControlResult(snapshots: try answer(asked, data: data))
        case .status, .sync, .unmount, .importTree, .grafts:
            preconditionFailure("\(request.command) is answered elsewhere")
        }
    }

    private func atPlace(
        of request: ControlRequest,
        _ body: (Inode, [FileName]) throws(Errno) -> ControlResult
    ) throws(Failure) -> ControlResult {
        let names = request.names.map { FileName(Array($0)) }
        let place = try place(of: names, fixedCount: request.fixedCount, shown: request.shownPath)
        switch place {
        case .elsewhere(let path):
            return ControlResult(elsewhere: Data(path))
        case .inode(let inode, let names):
            do throws(Errno) {
                return try body(inode, names)
            } catch {
                let cause = error.isOrdinary ? nil : FailureCause.take()
                throw Failure(
                    "\(RawText.shown(request.shownPath)): \(error.reason)"
                        + (cause.map { ": " + FailureLog.shown($0) } ?? ""))
            }
        }
    }

    private func export(
        _ root: CID, _ data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        // An archive comes in small pieces. The sink's own failure is told apart from the volume's.
        var buffer: [UInt8] = []
        buffer.reserveCapacity(2 * Self.pieceCount)
        var sinkFailure: Failure?
        do throws(VolumeError) {
            try exportCAR(root) { (bytes) throws(Failure) in
                buffer.append(contentsOf: bytes)
                guard buffer.count >= Self.pieceCount else { return }
                do throws(Failure) {
                    try Self.pass(&buffer, to: data)
                } catch {
                    sinkFailure = error
                    throw error
                }
            }
        } catch {
            throw sinkFailure ?? Failure(volume: error)
        }
        try Self.pass(&buffer, to: data)
    }

    private static let pieceCount = 256 << 10

    private static func pass(
        _ buffer: inout [UInt8], to data: (UnsafeRawBufferPointer) throws(Failure) -> Void
    ) throws(Failure) {
        var failure: Failure?
        buffer.withUnsafeBytes { bytes in
            do throws(Failure) { try data(bytes) } catch { failure = error }
        }
        buffer.removeAll(keepingCapacity: true)
        if let failure { throw failure }
    }

    private func naming<Result>(
        _ cid: CID, _ body: () throws(VolumeError) -> Result
    ) throws(Failure) -> Result {
        do throws(VolumeError) {
            return try body()
        } catch {
            throw Failure(volume: error)
        }
    }
}

extension Failure {
    /// A volume's error, which names what and where itself.
    init(volume error: VolumeError) {
        var kind = Kind.failed
        if case .blockNotFound = error { kind = .absent }
        self.init(error.description, kind: kind)
    }
}

/// Content identifiers on the command line.
enum ContentID {
    /// Reads a CID; the failure names the text and what is wrong with it.
    static func parse(_ text: String) throws(Failure) -> CID {
        do throws(CIDError) {
            return try CID(parsing: text)
        } catch {
            throw Failure("'\(RawText.shown(text))' is not a CID: \(reason(error))")
        }
    }

    private static func reason(_ error: CIDError) -> String {
        switch error {
        case .multibase(let error): "it is no multibase text (\(error))"
        case .multihash(let error): "its multihash is malformed (\(error))"
        case .varint(let error): "a number in it is malformed (\(error))"
        case .unsupportedVersion(let version): "CID version \(version) is unknown"
        case .codecTooLarge(let codec): "its codec \(codec) is out of range"
        case .trailingBytes(let count): "\(count) bytes follow its digest"
        case .version0InMultibase: "a CIDv0 has no multibase prefix"
        }
    }
}
