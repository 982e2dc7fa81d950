internal import Base
internal import HTTP
internal import MerkleDAG
public import Multiformats
public import Remotes

extension GatewayRemote {
    /// Why a stream is taken no further.
    private enum Stop<Failure: Error>: Error {
        case caller(Failure)
        case archive(CARError)
        case bounded
        /// No request was made.
        case refused(RemoteError)
    }

    public func blocks<Failure: Error>(
        _ request: TreeRequest, _ take: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(RemoteStreamError<Failure>) -> TreeEnding {
        let ask = Self.ask(request)
        if ask.cancellation?.isCancelled ?? false {
            throw .remote(error(.cancelled, of: ask, "cancelled"))
        }
        // Such a block is in no archive.
        if request.root.multihash.code == .identity {
            do throws(Failure) {
                try take(request.root, request.root.multihash.digest)
            } catch {
                throw .source(error)
            }
            return .ended
        }
        var stream = CARStream(root: request.root)
        var byteCount = 0
        var type = "no type"
        let reply: HTTPReply
        do throws(HTTPStreamError<Stop<Failure>>) {
            reply = try admitted(
                ask, orElse: { .source(.refused($0)) }
            ) { (http) throws(HTTPStreamError<Stop<Failure>>) in
                var tree = self.request(ask)
                tree.lendsCutReply = true
                return try http.download(tree) { (head, piece) throws(Stop<Failure>) in
                    type = head.headers["Content-Type"] ?? type
                    try Self.take(piece, &stream, &byteCount, request.bytesMax, take)
                }
            }
        } catch {
            return try ending(of: error, ask, stream, type)
        }
        guard reply.status == 200 else { throw .remote(error(reply, of: ask)) }
        guard stream.isHeaderTaken else {
            // A reply that ends with its connection may as well have been cut off.
            throw .remote(
                error(
                    reply.isDelimited ? .wrongBytes : .unreachable, of: ask,
                    "the gateway gave no archive (\(type))"))
        }
        guard stream.blockCount > 0 else {
            throw .remote(error(.notFound, of: ask, "the archive (\(type)) has no block of this"))
        }
        // Boxo tells so where it has no room for another status any more.
        if let text = reply.trailers["X-Stream-Error"] {
            return .cut(error(.failed, of: ask, text))
        }
        guard stream.isBetweenSections else {
            return .cut(error(.unreachable, of: ask, "the archive ends within a block"))
        }
        return .ended
    }

    private static func ask(_ request: TreeRequest) -> GatewayAsk {
        let scope = request.scope == .entity ? "entity" : "all"
        var ask = GatewayAsk(
            request.root,
            query: "format=car&dag-scope=\(scope)&car-version=1&car-order=dfs&car-dups=n",
            accept: "application/vnd.ipld.car; version=1; order=dfs; dups=n",
            asksPeers: request.asksPeers, deadlineMilliseconds: request.deadlineMilliseconds)
        ask.cancellation = request.cancellation
        ask.user = request.user
        return ask
    }

    private static func take<Failure: Error>(
        _ piece: UnsafeRawBufferPointer, _ stream: inout CARStream, _ byteCount: inout Int,
        _ bytesMax: Int, _ take: (CID, [UInt8]) throws(Failure) -> Void
    ) throws(Stop<Failure>) {
        let goesOn: Bool
        do throws(CARStreamError<Failure>) {
            goesOn = try stream.take(piece) { (cid, block) throws(Failure) in
                byteCount += block.count
                try take(cid, block)
                return byteCount < bytesMax
            }
        } catch {
            switch error {
            case .archive(let error): throw .archive(error)
            case .body(let error): throw .caller(error)
            }
        }
        if !goesOn || stream.isFull { throw .bounded }
    }

    private func ending<Failure: Error>(
        of failure: HTTPStreamError<Stop<Failure>>, _ ask: GatewayAsk, _ stream: CARStream,
        _ type: String
    ) throws(RemoteStreamError<Failure>) -> TreeEnding {
        switch failure {
        case .source(.caller(let error)): throw .source(error)
        case .source(.bounded): return .bounded
        case .source(.refused(let error)): throw .remote(error)
        case .source(.archive(let error)):
            throw .remote(
                self.error(
                    .wrongBytes, of: ask,
                    "the gateway gave what is no archive of this (\(type)): \(error)"))
        case .http(let error):
            let error = self.error(error, of: ask)
            guard stream.blockCount > 0, error.kind != .cancelled else { throw .remote(error) }
            return .cut(error)
        }
    }
}
