import Base
import HTTPTypes
import Serving
import Testing

@Suite struct ByteRangesResponseTests {
    private static let content = Array("0123456789abcdefghijklmnopqrstuvwxyz".utf8)
    private static let etag = "\"tag\""

    /// Counts what is asked for, and gives it in pieces of three bytes.
    private final class Source: Sendable {
        let asked = Monitor<[Range<UInt64>]>([])

        func body(_ range: Range<UInt64>) -> ServeBody {
            asked.withLock { $0.append(range) }
            return .producer(
                Pieces(Array(content[Int(range.lowerBound)..<Int(range.upperBound)])), count: nil)
        }
    }

    private final class Pieces: BodyProducer {
        private let rest: Monitor<[UInt8]>

        init(_ bytes: [UInt8]) { rest = Monitor(bytes) }

        func next() throws(ServeFault) -> BytesPlace? {
            rest.withLock { rest in
                let piece = Array(rest.prefix(3))
                rest.removeFirst(piece.count)
                return piece.isEmpty ? nil : .bytes(piece)
            }
        }
    }

    private func ask(
        _ fields: HTTPFields, method: HTTPRequest.Method = .get, size: Int = content.count,
        etag: String = etag, source: Source = Source()
    ) throws -> ServeResponse {
        guard let request = ServeRequest(method: method, target: "/x", fields: fields) else {
            throw PathTestFailure(reason: "no target")
        }
        let own: HTTPFields = [.contentType: "text/plain", .cacheControl: "public"]
        return try .ranged(request, size: UInt64(size), etag: etag, fields: own) { range in
            source.body(range)
        }
    }

    @Test func withoutRangeAllIsGiven() throws {
        let answer = try PathAnswer(try ask([:]))
        #expect(answer.status == 200)
        #expect(answer.bytes == Self.content)
        #expect(answer["Accept-Ranges"] == "bytes")
        #expect(answer["Etag"] == Self.etag)
        #expect(answer["Content-Range"] == nil)
    }

    @Test func oneRangeIs206WithItsPlace() throws {
        let answer = try PathAnswer(try ask([.range: "bytes=6-16"]))
        #expect(answer.status == 206)
        #expect(answer["Content-Range"] == "bytes 6-16/36")
        #expect(answer["Content-Type"] == "text/plain")
        #expect(answer.text == "6789abcdefg")
    }

    @Test func rangeBeyondTheEndIs416AndNotToBeKept() throws {
        let answer = try PathAnswer(try ask([.range: "bytes=36-"]))
        #expect(answer.status == 416)
        #expect(answer["Content-Range"] == "bytes */36")
        #expect(answer["Content-Type"] == nil)
        #expect(answer["Cache-Control"] == nil)
        #expect(answer.bytes.isEmpty)
    }

    @Test func severalRangesComeAsPartsInTheOrderAsked() throws {
        let response = try ask([.range: "bytes=6-16,0-4,35-"])
        let answer = try PathAnswer(response)
        #expect(answer.status == 206)
        #expect(answer["Content-Range"] == nil)
        let type = try #require(answer["Content-Type"])
        let boundary = type.dropFirst("multipart/byteranges; boundary=".count)
        #expect(type.hasPrefix("multipart/byteranges; boundary=") && boundary.count == 32)
        func head(_ range: String) -> String {
            "--\(boundary)\r\nContent-Type: text/plain\r\nContent-Range: bytes \(range)/36\r\n\r\n"
        }
        #expect(
            answer.text == head("6-16") + "6789abcdefg\r\n" + head("0-4") + "01234\r\n"
                + head("35-35") + "z\r\n--\(boundary)--\r\n")
        #expect(response.body.count == UInt64(answer.bytes.count))
    }

    @Test func boundariesDiffer() throws {
        let first = try PathAnswer(try ask([.range: "bytes=0-1,4-5"]))
        let second = try PathAnswer(try ask([.range: "bytes=0-1,4-5"]))
        #expect(first["Content-Type"] != second["Content-Type"])
    }

    @Test func laterPartsAreNotOpenedBeforeTheirTurn() throws {
        let source = Source()
        let response = try ask([.range: "bytes=0-5,10-15,20-25"], source: source)
        #expect(source.asked.withLock { $0 } == [0..<6])
        guard case .producer(let producer, _) = response.body else {
            Issue.record("several ranges are made piece by piece")
            return
        }
        // The heading, and the two pieces of the first part.
        for _ in 0..<3 { _ = try producer.next() }
        #expect(source.asked.withLock { $0 } == [0..<6])
        _ = try producer.next()
        #expect(source.asked.withLock { $0 } == [0..<6, 10..<16])
    }

    @Test func partThatIsTooShortFailsAndIsNotPaddedOver() throws {
        guard
            let request = ServeRequest(
                method: .get, target: "/x", fields: [.range: "bytes=0-5,10-15"])
        else { return }
        let response = try ServeResponse.ranged(request, size: 36, etag: "\"t\"", fields: [:]) {
            range in .bytes(Array(repeating: 1, count: range.lowerBound == 0 ? 6 : 5))
        }
        #expect(throws: ServeFault.self) { try PathAnswer(response) }
    }

    @Test func partThatIsTooLongFails() throws {
        guard
            let request = ServeRequest(
                method: .get, target: "/x", fields: [.range: "bytes=0-5,10-15"])
        else { return }
        let response = try ServeResponse.ranged(request, size: 36, etag: "\"t\"", fields: [:]) {
            _ in
            .bytes(Array(repeating: 1, count: 7))
        }
        #expect(throws: ServeFault.self) { try PathAnswer(response) }
    }

    @Test func headHasTheLengthAndAsksForNoBytes() throws {
        let source = Source()
        let response = try ask([.range: "bytes=0-5"], method: .head, source: source)
        #expect(response.status == 200)
        #expect(response.body.count == 36)
        #expect(source.asked.withLock { $0 }.isEmpty)
        #expect(try PathAnswer(response).bytes.isEmpty)
    }

    @Test func emptyContentIsGivenWhateverIsAsked() throws {
        let source = Source()
        for fields in [[:], [.range: "bytes=0-"], [.range: "bytes=-1"]] as [HTTPFields] {
            let response = try ask(fields, size: 0, source: source)
            #expect(response.status == 200)
            #expect(response.body.count == 0)
        }
        #expect(source.asked.withLock { $0 }.isEmpty)
    }

    @Test(arguments: [
        "\"tag\"", "W/\"tag\"", "*", " * ", "\"a\", \"b\",\"tag\"", "\"a,b\", \"tag\"",
        "\"fake1\", W/\"tag\"",
    ])
    func ifNoneMatchThatFitsIs304(condition: String) throws {
        let answer = try PathAnswer(try ask([.ifNoneMatch: condition]))
        #expect(answer.status == 304)
        #expect(answer["Etag"] == Self.etag)
        #expect(answer["Cache-Control"] == "public")
        #expect(answer["Content-Type"] == nil)
        #expect(answer.bytes.isEmpty)
    }

    @Test(arguments: ["\"other\"", "tag", "\"tag", "\"a\" \"b", "", "\"xtag\"", "w/\"tag\""])
    func ifNoneMatchThatDoesNotFitIsAnswered(condition: String) throws {
        #expect(try ask([.ifNoneMatch: condition]).status == 200)
    }

    @Test func ifNoneMatchComesBeforeRange() throws {
        #expect(try ask([.ifNoneMatch: "\"tag\"", .range: "bytes=99-"]).status == 304)
    }

    @Test func ifMatchIsStrong() throws {
        #expect(try ask([.ifMatch: "\"tag\""]).status == 200)
        #expect(try ask([.ifMatch: "*"]).status == 200)
        #expect(try ask([.ifMatch: "W/\"tag\""]).status == 412)
        #expect(try ask([.ifMatch: "\"other\""]).status == 412)
        #expect(try ask([.ifMatch: "W/\"tag\""], etag: "W/\"tag\"").status == 412)
    }

    @Test(arguments: [
        ("\"tag\"", 206), ("\"other\"", 200), ("W/\"tag\"", 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ])
    func ifRangeWithThisVeryTagLetsTheRangeCount(condition: String, status: Int) throws {
        #expect(try ask([.ifRange: condition, .range: "bytes=0-1"]).status == status)
    }

    @Test func weakTagNeverLetsARangeCount() throws {
        let fields: HTTPFields = [.ifRange: "W/\"tag\"", .range: "bytes=0-1"]
        #expect(try ask(fields, etag: "W/\"tag\"").status == 200)
    }
}
