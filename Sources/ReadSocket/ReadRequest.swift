package import Multiformats
package import Serving

/// A request of the protocol; its layout stands in `ReadProtocol`.
package enum ReadRequest: Hashable, Sendable {
    case hello(Hello)
    case root
    case entry(path: [[UInt8]])
    case names(path: [[UInt8]])
    /// - `loan`: what the client calls a range that it is lent; 0 where it wants none.
    case block(CID, BlockScope, BlockReach, loan: UInt64)
    case wholeFile(CID, BlockScope, loan: UInt64)
    case has(CID, BlockScope)
    case endOfLoans([UInt64])
    case expect([CID])

    private var kind: UInt8 {
        switch self {
        case .hello: 1
        case .root: 2
        case .entry: 3
        case .names: 4
        case .block: 5
        case .wholeFile: 6
        case .has: 7
        case .endOfLoans: 8
        case .expect: 9
        }
    }

    /// Nil for what a frame has no room for: a path that is too long.
    package var frame: [UInt8]? {
        var body: [UInt8] = []
        switch self {
        case .hello(let hello):
            body = hello.body
        case .root:
            break
        case .entry(let path), .names(let path):
            for name in path {
                guard name.count <= Int(UInt16.max),
                    body.count + name.count <= ReadProtocol.requestCountMax
                else { return nil }
                body.append(name: name)
            }
        case .block(let cid, let scope, let reach, let loan):
            body = [scope.rawValue, reach.rawValue]
            body.append(number: loan)
            cid.append(to: &body)
        case .wholeFile(let cid, let scope, let loan):
            body = [scope.rawValue]
            body.append(number: loan)
            cid.append(to: &body)
        case .has(let cid, let scope):
            body = [scope.rawValue]
            cid.append(to: &body)
        case .endOfLoans(let loans):
            for loan in loans.prefix(ReadProtocol.endedLoansMax) { body.append(number: loan) }
        case .expect(let cids):
            for cid in cids.prefix(ReadProtocol.expectedMax) { body.append(name: cid.bytes) }
        }
        guard body.count <= ReadProtocol.requestCountMax else { return nil }
        return FrameHead(kind: kind, count: body.count).encoded + body
    }

    package init(kind: UInt8, body: [UInt8]) throws(ReadMalformed) {
        var fields = FieldReader(body[...])
        switch kind {
        case 1:
            self = .hello(try Hello(&fields))
        case 2:
            self = .root
        case 3:
            self = .entry(path: try fields.path())
        case 4:
            self = .names(path: try fields.path())
        case 5:
            let (scope, reach) = (try fields.scope(), try fields.reach())
            let loan = try fields.number(UInt64.self)
            self = .block(try fields.cid(), scope, reach, loan: loan)
        case 6:
            let scope = try fields.scope()
            let loan = try fields.number(UInt64.self)
            self = .wholeFile(try fields.cid(), scope, loan: loan)
        case 7:
            let scope = try fields.scope()
            self = .has(try fields.cid(), scope)
        case 8:
            guard body.count <= 8 * ReadProtocol.endedLoansMax else {
                throw ReadMalformed("too many loans are ended at once")
            }
            var loans: [UInt64] = []
            while !fields.isAtEnd { loans.append(try fields.number(UInt64.self)) }
            self = .endOfLoans(loans)
        case 9:
            var cids: [CID] = []
            while !fields.isAtEnd {
                guard cids.count < ReadProtocol.expectedMax else {
                    throw ReadMalformed("too many blocks are expected at once")
                }
                cids.append(try FieldReader.cid(try fields.name()[...]))
            }
            self = .expect(cids)
        default:
            throw ReadMalformed("there is no request \(kind)")
        }
        guard fields.isAtEnd else { throw ReadMalformed("request \(kind) is too long") }
    }
}
