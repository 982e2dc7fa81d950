/// A place to try what both sides make of frames that may be anything: for the fuzz target, which is a package of
/// its own.
public enum ReadSocketTrial {
    /// Reads bytes as requests, one after the other, as the daemon does.
    ///
    /// Traps where what was read encodes to other bytes.
    ///
    /// - Returns: how many there are before what is none.
    public static func requests(_ bytes: [UInt8]) -> Int {
        frames(bytes, countMax: ReadProtocol.requestCountMax) {
            (kind, body) throws(ReadMalformed) in
            let request = try ReadRequest(kind: kind, body: body)
            if case .hello(let hello) = request, hello.version != ReadProtocol.version {
                return nil
            }
            return request.frame
        }
    }

    /// Reads bytes as answers, one after the other, as the client does.
    ///
    /// Traps where what was read encodes to other bytes.
    ///
    /// - Returns: how many there are before what is none.
    public static func answers(_ bytes: [UInt8]) -> Int {
        frames(bytes, countMax: ReadProtocol.answerCountMax) { (kind, body) throws(ReadMalformed) in
            let answer = try ReadAnswer(kind: kind, body: body)
            if case .hello(let hello) = answer, hello.version != ReadProtocol.version { return nil }
            return answer.frame
        }
    }

    /// - Parameter again: decodes and encodes; nil for what is of another version, of which not all is known.
    private static func frames(
        _ bytes: [UInt8], countMax: Int,
        _ again: (UInt8, [UInt8]) throws(ReadMalformed) -> [UInt8]?
    ) -> Int {
        var rest = bytes[...]
        var count = 0
        while rest.count >= ReadProtocol.headCount {
            let start = Array(rest.prefix(ReadProtocol.headCount))
            guard let head = try? FrameHead(decoding: start, countMax: countMax),
                rest.count - start.count >= head.count
            else { return count }
            let frame = Array(rest.prefix(start.count + head.count))
            rest = rest.dropFirst(frame.count)
            do throws(ReadMalformed) {
                let encoded = try again(head.kind, Array(frame.dropFirst(start.count)))
                precondition(encoded ?? frame == frame, "what was read encodes to the same bytes")
            } catch {
                return count
            }
            count += 1
        }
        return count
    }
}
