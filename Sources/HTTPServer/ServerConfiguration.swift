internal import Base
public import Serving

/// What a server does beside what its handler answers, and all of its bounds. What is out of its range is taken as the nearest
/// that is in it.
public struct ServerConfiguration: Sendable {
    /// The threads that move bytes, 1 to 64; none of them ever waits for a handler. Default: one for each processor, 4 at most.
    public var loopThreadCount = min(Threads.processorCount, 4)
    /// The threads that handlers block, 1 to 1024. Of their requests those that wait for others have shares that leave some of
    /// these to all else (`RequestShare`).
    public var handlerThreadCount = 128
    /// The threads that reads of files block, 1 to 256: others than those of handlers, so that answers on their way go on where all
    /// handlers wait for somebody.
    public var readerThreadCount = 4

    /// Open connections, 1 to 1,000,000. Each further one is closed as soon as it is accepted.
    public var connectionsMax = 10_000
    /// Requests that a handler works at, or whose answer is on its way, 1 to 1,000,000. Each further one is answered by 429,
    /// which clients of registries and gateways take for a word to come again soon.
    public var requestsMax = 1_024
    /// Streams of one HTTP/2 connection, 1 to 1000.
    public var streamsMax = 100

    /// Names and values of a request's fields together, in bytes, 256 to 1 MiB; beyond: 431. The default has room for a Range
    /// of 1,024 places in a large file.
    public var headerBytesMax = 32 << 10
    /// Fields of a request, 1 to 10,000; beyond: 431.
    public var headerCountMax = 128
    /// The target of a request, in bytes, 16 to 1 MiB; beyond: 414.
    public var targetBytesMax = 8 << 10
    /// The body of a request, in bytes, 0 to 1 GiB: so much of it is read and thrown away, because no handler takes any; beyond:
    /// 413.
    public var requestBodyBytesMax = 64 << 10

    /// From the first byte of a request to its end, and from a connection's begin to that of its first request, in
    /// milliseconds, 1 to an hour; then the connection is closed.
    public var requestMilliseconds = 10_000
    /// How long a connection is kept without a request, in milliseconds, 1 to an hour.
    public var idleMilliseconds = 60_000
    /// How long a client may take none of the bytes that wait for it, in milliseconds, 1 to an hour; then the connection is
    /// closed. Of an HTTP/2 stream the bytes are seen in steps of 64 KiB.
    public var stallMilliseconds = 60_000
    /// How few bytes a client may take in a second, 0 to 1 GiB, on the average over each `takingMilliseconds` in which bytes wait for
    /// it, which are 1 to an hour; then the connection is closed. 0 for no such bound.
    public var takenBytesPerSecondMin = 1 << 10
    public var takingMilliseconds = 60_000
    /// How long answers that are on their way may go on after a graceful stop, in milliseconds, 0 to an hour.
    public var stopMilliseconds = 30_000
    /// How often the files of a certificate are looked at, in milliseconds, 10 to an hour.
    public var certificateMilliseconds = 5_000

    /// The piece of an answer that is in memory at a time, in bytes, 4 KiB to 16 MiB.
    public var pieceBytes = 256 << 10
    /// What the pieces of all answers may take together, in bytes, 1 MiB to 1 TiB. Where there is room, each answer has a second
    /// one read ahead; where there is not, pieces are smaller, down to 16 KiB. What a handler has made, and what
    /// TLS makes of a piece, is not in it.
    public var piecesBytesMax = 32 << 20
    /// What all answers may have in memory together of what handlers have made and clients have not taken, in bytes, 1 MiB
    /// to 1 TiB. Where another would be beyond, and is longer than 64 KiB, it is 429.
    public var bodyBytesMax = 256 << 20

    /// Who may ask.
    public var access = AccessRules()
    /// Makes the server's own refusals: the answer in place of a line of text, by a target as a path with its query, and a
    /// status. Nil, or nil of it, for that line. The status stays, and so do the fields that it needs. Must not block.
    public var refusal: (@Sendable (_ target: String, _ status: Int) -> ServeResponse?)?
    /// The certificate; nil for none, and so no TLS on any of the addresses. Unix sockets never have TLS.
    public var certificate: CertificateFiles?
    /// Where a line for each request goes; nil for nowhere. The server ends it (`AccessLog.finish`) when it has ended.
    public var accessLog: AccessLog?

    public init() {}

    /// The same, with everything in its range.
    var bounded: ServerConfiguration {
        func within(_ value: Int, _ range: ClosedRange<Int>) -> Int {
            min(max(value, range.lowerBound), range.upperBound)
        }
        let hour = 3_600_000
        var bounded = self
        bounded.loopThreadCount = within(loopThreadCount, 1...64)
        bounded.handlerThreadCount = within(handlerThreadCount, 1...1024)
        bounded.readerThreadCount = within(readerThreadCount, 1...256)
        bounded.connectionsMax = within(connectionsMax, 1...1_000_000)
        bounded.requestsMax = within(requestsMax, 1...1_000_000)
        bounded.streamsMax = within(streamsMax, 1...1000)
        bounded.headerBytesMax = within(headerBytesMax, 256...1 << 20)
        bounded.headerCountMax = within(headerCountMax, 1...10_000)
        bounded.targetBytesMax = within(targetBytesMax, 16...1 << 20)
        bounded.requestBodyBytesMax = within(requestBodyBytesMax, 0...1 << 30)
        bounded.requestMilliseconds = within(requestMilliseconds, 1...hour)
        bounded.idleMilliseconds = within(idleMilliseconds, 1...hour)
        bounded.stallMilliseconds = within(stallMilliseconds, 1...hour)
        bounded.takenBytesPerSecondMin = within(takenBytesPerSecondMin, 0...1 << 30)
        bounded.takingMilliseconds = within(takingMilliseconds, 1...hour)
        bounded.stopMilliseconds = within(stopMilliseconds, 0...hour)
        bounded.certificateMilliseconds = within(certificateMilliseconds, 10...hour)
        bounded.pieceBytes = within(pieceBytes, 4 << 10...16 << 20)
        bounded.piecesBytesMax = within(piecesBytesMax, 1 << 20...1 << 40)
        bounded.bodyBytesMax = within(bodyBytesMax, 1 << 20...1 << 40)
        return bounded
    }
}
