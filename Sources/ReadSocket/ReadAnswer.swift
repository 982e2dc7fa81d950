internal import Base
package import Multiformats
package import Serving

/// An answer of the protocol; its layout stands in `ReadProtocol`.
package enum ReadAnswer: Hashable, Sendable {
    case hello(Hello)
    case nothing
    case root(CID)
    case entry(ServedEntry)
    /// A part of a listing.
    case names([ServedName], isLast: Bool)
    case bytes([UInt8])
    /// Of the file whose descriptor comes beside it.
    case range(offset: UInt64, count: UInt64)
    case truth(Bool)
    case fault(ServeFault)

    /// Whether a descriptor comes beside it.
    package var hasDescriptor: Bool {
        if case .range = self { true } else { false }
    }

    private var kind: UInt8 {
        switch self {
        case .hello: 129
        case .nothing: 130
        case .root: 131
        case .entry(.file): 132
        case .entry(.directory): 133
        case .entry(.symlink): 134
        case .names: 135
        case .bytes: 136
        case .range: 137
        case .truth: 138
        case .fault: 139
        }
    }

    /// Nil for what a frame has no room for.
    package var frame: [UInt8]? {
        var body: [UInt8] = []
        switch self {
        case .hello(let hello):
            body = hello.body
        case .nothing, .entry(.directory):
            break
        case .root(let cid):
            body = cid.bytes
        case .entry(.file(let cid, let size)):
            body.append(number: size)
            cid.append(to: &body)
        case .entry(.symlink(let target)):
            body = target
        case .names(let names, let isLast):
            body = [isLast ? 0 : 1]
            for name in names {
                guard name.name.count <= Int(UInt16.max) else { return nil }
                body.append(name.mayBeDirectory ? 1 : 0)
                body.append(name: name.name)
            }
        case .bytes(let bytes):
            body = bytes
        case .range(let offset, let count):
            body.append(number: offset)
            body.append(number: count)
        case .truth(let truth):
            body = [truth ? 1 : 0]
        case .fault(let fault):
            body = Self.body(of: fault)
        }
        guard body.count <= ReadProtocol.answerCountMax else { return nil }
        return FrameHead(kind: kind, count: body.count).encoded + body
    }

    package init(kind: UInt8, body: [UInt8]) throws(ReadMalformed) {
        var fields = FieldReader(body[...])
        switch kind {
        case 129:
            self = .hello(try Hello(&fields))
        case 130:
            self = .nothing
        case 131:
            self = .root(try fields.cid())
        case 132:
            let size = try fields.number(UInt64.self)
            self = .entry(.file(try fields.cid(), size: size))
        case 133:
            self = .entry(.directory)
        case 134:
            self = .entry(.symlink(target: Array(fields.rest())))
        case 135:
            let isLast = try !fields.truth()
            var names: [ServedName] = []
            while !fields.isAtEnd {
                let mayBeDirectory = try fields.truth()
                names.append(ServedName(name: try fields.name(), mayBeDirectory: mayBeDirectory))
            }
            self = .names(names, isLast: isLast)
        case 136:
            self = .bytes(body)
            _ = fields.rest()
        case 137:
            let offset = try fields.number(UInt64.self)
            self = .range(offset: offset, count: try fields.number(UInt64.self))
        case 138:
            self = .truth(try fields.truth())
        case 139:
            self = .fault(try Self.fault(&fields))
        default:
            throw ReadMalformed("there is no answer \(kind)")
        }
        guard fields.isAtEnd else { throw ReadMalformed("answer \(kind) is too long") }
    }

    private static func body(of fault: ServeFault) -> [UInt8] {
        func text(_ reason: String) -> [UInt8] {
            Array(oneLine(reason, lengthMax: ReadProtocol.reasonCountMax).utf8)
        }
        return switch fault {
        case .notFound: [1]
        case .unavailable: [2]
        case .timedOut: [3]
        case .damaged(let cid): [4] + cid.bytes
        case .unsuitable(let reason): [5] + text(reason)
        case .tooLarge(let reason): [6] + text(reason)
        case .failed(let reason): [7] + text(reason)
        }
    }

    private static func fault(_ fields: inout FieldReader) throws(ReadMalformed) -> ServeFault {
        func reason() throws(ReadMalformed) -> String {
            let bytes = fields.rest()
            // Only what `oneLine` leaves as it is comes back to the same bytes.
            guard bytes.count <= ReadProtocol.reasonCountMax,
                let text = String(validating: bytes, as: UTF8.self),
                oneLine(text, lengthMax: ReadProtocol.reasonCountMax) == text
            else { throw ReadMalformed("a reason is too long, or not one line of text") }
            return text
        }
        return switch try fields.number(UInt8.self) {
        case 1: .notFound
        case 2: .unavailable
        case 3: .timedOut
        case 4: .damaged(try fields.cid())
        case 5: .unsuitable(reason: try reason())
        case 6: .tooLarge(reason: try reason())
        case 7: .failed(reason: try reason())
        default: throw ReadMalformed("there is no such fault")
        }
    }
}
