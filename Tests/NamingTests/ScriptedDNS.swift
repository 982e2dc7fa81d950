import Base
import Glibc
import Naming

/// A name server on the loopback, over UDP and TCP on one port, that answers as a script says: wrong, cut,
/// late or not at all.
final class ScriptedDNS: Sendable {
    struct Question: Sendable {
        var packet: [UInt8]
        /// In lower case, with dots between its labels.
        var name: String
        var isTCP: Bool
    }

    struct SocketFailure: Error {}

    private struct State {
        var questions: [Question] = []
        var isOver = false
    }

    let port: UInt16
    private let datagrams: Int32
    private let listener: Int32
    private let state = Monitor(State())
    private let script: @Sendable (Question) -> [[UInt8]]

    /// - Parameter script: the packets to send for a question; over TCP, each with its length before it.
    init(_ script: @escaping @Sendable (Question) -> [[UInt8]]) throws {
        self.script = script
        let flags = Int32(SOCK_CLOEXEC.rawValue)
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | flags, 0)
        datagrams = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | flags, 0)
        let bound = try Self.bind(listener, 0)
        port = try Self.bind(datagrams, bound)
        guard listen(listener, 8) == 0 else { throw SocketFailure() }
        try Threads.startDetached(name: "dns-udp") { [self] in serveDatagrams() }
        try Threads.startDetached(name: "dns-tcp") { [self] in serveConnections() }
    }

    private static func bind(_ descriptor: Int32, _ port: UInt16) throws -> UInt16 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        address.sin_port = port.bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                Glibc.bind(descriptor, generic, length) == 0
                    && getsockname(descriptor, generic, &length) == 0
            }
        }
        guard isBound else { throw SocketFailure() }
        return UInt16(bigEndian: address.sin_port)
    }

    var address: String { "127.0.0.1:\(port)" }
    /// All that came so far, an array of their own (.ci/thread-sanitizer).
    var questions: [Question] { state.withLock { $0.questions.map { $0 } } }

    func stop() {
        state.withLock { $0.isOver = true }
        shutdown(listener, Int32(SHUT_RDWR))
        // A datagram of its own wakes the thread that waits for one.
        shutdown(datagrams, Int32(SHUT_RDWR))
    }

    private func answers(to packet: [UInt8], isTCP: Bool) -> [[UInt8]] {
        var labels: [String] = []
        var offset = 12
        while offset < packet.count, packet[offset] > 0, offset + Int(packet[offset]) < packet.count
        {
            let label = packet[(offset + 1)...(offset + Int(packet[offset]))]
            labels.append(String(decoding: label, as: UTF8.self).lowercased())
            offset += 1 + label.count
        }
        let question = Question(
            packet: packet, name: labels.joined(separator: "."), isTCP: isTCP)
        state.withLock { $0.questions.append(question) }
        return script(question)
    }

    private func serveDatagrams() {
        var packet = [UInt8](repeating: 0, count: 1 << 16)
        while !state.withLock({ $0.isOver }) {
            var from = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let count = withUnsafeMutablePointer(to: &from) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    recvfrom(datagrams, &packet, packet.count, 0, $0, &length)
                }
            }
            guard count > 0 else { break }
            for answer in answers(to: Array(packet[..<count]), isTCP: false) {
                _ = withUnsafePointer(to: &from) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        sendto(datagrams, answer, answer.count, 0, $0, length)
                    }
                }
            }
        }
        close(datagrams)
    }

    private func serveConnections() {
        while true {
            let connection = accept(listener, nil, nil)
            guard connection >= 0 else { break }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = recv(connection, &bytes, bytes.count, 0)
            if count > 2 {
                for answer in answers(to: Array(bytes[2..<count]), isTCP: true) {
                    let length = UInt16(truncatingIfNeeded: answer.count)
                    let head = [UInt8(length >> 8), UInt8(truncatingIfNeeded: length)]
                    _ = send(
                        connection, head + answer, answer.count + 2, Int32(MSG_NOSIGNAL))
                }
            }
            close(connection)
        }
        close(listener)
    }
}

/// Packets for scripts.
enum Packet {
    enum Record {
        case text(String, ttl: UInt32 = 300, owner: String? = nil)
        case strings([String], ttl: UInt32 = 300)
        case alias(String, to: String, ttl: UInt32 = 300)
        case authority(minimum: UInt32)
    }

    /// The answer to a question.
    static func answer(
        _ question: ScriptedDNS.Question, code: UInt8 = 0, isTruncated: Bool = false,
        authority: UInt32? = nil, _ records: [Record]
    ) -> [UInt8] {
        var packet = question.packet
        packet[2] = 0x81 | (isTruncated ? 2 : 0)
        packet[3] = 0x80 | code
        (packet[6], packet[7]) = (0, UInt8(records.count))
        (packet[8], packet[9]) = (0, authority == nil ? 0 : 1)
        for record in records { packet += bytes(record) }
        if let authority { packet += bytes(.authority(minimum: authority)) }
        return packet
    }

    static func name(_ text: String) -> [UInt8] {
        text.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    private static func bytes(_ record: Record) -> [UInt8] {
        func string(_ text: some StringProtocol) -> [UInt8] {
            [UInt8(text.utf8.count)] + Array(text.utf8)
        }
        switch record {
        case .text(let text, let ttl, let owner):
            return head(owner, 16, ttl, string(text))
        case .strings(let texts, let ttl):
            return head(nil, 16, ttl, texts.flatMap { string($0) })
        case .alias(let owner, let target, let ttl):
            return head(owner, 5, ttl, name(target))
        case .authority(let minimum):
            return head(
                "example", 6, 3600,
                [0, 0] + [UInt8](repeating: 0, count: 16) + bigEndian(minimum))
        }
    }

    /// - Parameter owner: nil for a pointer to the question's name.
    private static func head(
        _ owner: String?, _ type: UInt16, _ ttl: UInt32, _ data: [UInt8]
    ) -> [UInt8] {
        (owner.map(name) ?? [0xc0, 12]) + [0, UInt8(type), 0, 1] + bigEndian(ttl)
            + [UInt8(data.count >> 8), UInt8(data.count & 0xff)] + data
    }

    private static func bigEndian(_ value: UInt32) -> [UInt8] {
        withUnsafeBytes(of: value.bigEndian) { Array($0) }
    }
}
