package import Base
internal import Glibc

package import struct SystemPackage.Errno

/// Why a frame did not go, or did not come. The connection is of no use after it.
package enum ChannelFault: Error, Hashable {
    /// The other side closed it, or it broke.
    case lost
    case timedOut
    case malformed(ReadMalformed)
    /// The system refused a call.
    case system(Errno)

    init(_ error: Errno) {
        switch error {
        case .connectionReset, .brokenPipe, .socketNotConnected, .socketShutdown: self = .lost
        default: self = .system(error)
        }
    }
}

/// When something has to be over, by `MonotonicClock`.
package struct Deadline: Sendable {
    package let end: Int64

    package init(milliseconds: Int) {
        end = MonotonicClock.milliseconds + Int64(clamping: milliseconds)
    }

    /// Milliseconds, 0 or more.
    package var left: Int64 { max(0, end - MonotonicClock.milliseconds) }
    package var isOver: Bool { left == 0 }
}

/// A frame as it came.
package struct ReceivedFrame: Sendable {
    package var kind: UInt8
    package var body: [UInt8]
    /// All that came beside its bytes.
    package var descriptors: [UnixSocket.Received]

    /// Whether exactly so many descriptors came, in one piece, of which none was lost.
    package func hasDescriptors(_ count: Int) -> Bool {
        guard count > 0 else { return descriptors.isEmpty }
        guard let first = descriptors.first else { return false }
        return descriptors.count == 1 && first.count == count && !first.isCut
    }
}

/// A connection that carries frames. One thread uses it at a time; any may shut it down.
package final class FrameChannel: Sendable {
    private let socket: OwnedDescriptor
    private let countMax: Int

    /// - Parameters:
    ///   - socket: a stream socket that does not block.
    ///   - countMax: of the bodies that may come, in bytes.
    package init(_ socket: consuming OwnedDescriptor, countMax: Int) {
        self.socket = socket
        self.countMax = countMax
    }

    /// The number, for as long as this object lives.
    package var raw: Int32 { socket.raw }

    /// Ends the connection; the descriptor is closed once nobody has this object.
    package func shutDown() { UnixSocket.shutDown(socket.raw) }

    /// Sends a frame, with a descriptor beside its first byte.
    package func send(
        _ frame: [UInt8], with descriptor: Int32? = nil, by deadline: Deadline
    ) throws(ChannelFault) {
        var sent = 0
        while sent < frame.count {
            do throws(Errno) {
                let descriptors = sent == 0 ? descriptor.map { [$0] } ?? [] : []
                sent += try frame.withBytes { (bytes) throws(Errno) in
                    try UnixSocket.send(
                        UnsafeRawBufferPointer(rebasing: bytes[sent...]), with: descriptors,
                        to: socket.raw)
                }
            } catch {
                guard error == .wouldBlock || error == .resourceTemporarilyUnavailable else {
                    throw ChannelFault(error)
                }
                try wait(writing: true, by: deadline)
            }
        }
    }

    /// Receives a frame; nil where the other side has closed the connection between two.
    ///
    /// - Parameters:
    ///   - first: until when its first byte has to come; nil for as long as it takes.
    ///   - milliseconds: how long the rest may take after that; nil for the same deadline.
    package func receive(
        by first: Deadline?, restWithin milliseconds: Int? = nil
    ) throws(ChannelFault) -> ReceivedFrame? {
        var descriptors: [UnixSocket.Received] = []
        var head = [UInt8](repeating: 0, count: ReadProtocol.headCount)
        var deadline = first
        var count = try receive(&head, from: 0, &descriptors, by: deadline)
        guard count > 0 else { return nil }
        if let milliseconds { deadline = Deadline(milliseconds: milliseconds) }
        while count < head.count {
            let more = try receive(&head, from: count, &descriptors, by: deadline)
            guard more > 0 else { throw .lost }
            count += more
        }
        let expected: FrameHead
        do throws(ReadMalformed) {
            expected = try FrameHead(decoding: head, countMax: countMax)
        } catch {
            throw .malformed(error)
        }
        var body = [UInt8](repeating: 0, count: expected.count)
        count = 0
        while count < body.count {
            let more = try receive(&body, from: count, &descriptors, by: deadline)
            guard more > 0 else { throw .lost }
            count += more
        }
        return ReceivedFrame(kind: expected.kind, body: body, descriptors: descriptors)
    }

    private func receive(
        _ room: inout [UInt8], from start: Int, _ descriptors: inout [UnixSocket.Received],
        by deadline: Deadline?
    ) throws(ChannelFault) -> Int {
        while true {
            let count: Int
            do throws(Errno) {
                let received: UnixSocket.Received?
                (count, received) = try room.withMutableBytes { (bytes) throws(Errno) in
                    try UnixSocket.receive(
                        into: UnsafeMutableRawBufferPointer(rebasing: bytes[start...]),
                        from: socket.raw)
                }
                if let received { descriptors.append(received) }
            } catch {
                guard error == .wouldBlock || error == .resourceTemporarilyUnavailable else {
                    throw ChannelFault(error)
                }
                try wait(writing: false, by: deadline)
                continue
            }
            // It is wrong already, and what comes takes descriptors of this process.
            guard descriptors.count <= 1 else {
                throw .malformed(ReadMalformed("descriptors come again and again"))
            }
            return count
        }
    }

    private func wait(writing: Bool, by deadline: Deadline?) throws(ChannelFault) {
        if let deadline, deadline.isOver { throw .timedOut }
        do throws(Errno) {
            _ = try Sys.wait(
                for: [socket.raw], writing: writing, milliseconds: deadline.map(\.left))
        } catch {
            throw .system(error)
        }
    }
}
