public import Base
internal import HTTPTypes
public import Naming

// Records of names.
extension TrustlessGateway {
    func record(
        of text: String, _ request: ServeRequest, _ question: TrustlessQuestion
    ) throws(GatewayRefusal) -> ServeResponse {
        let name: IPNSName
        do throws(NamingError) {
            name = try IPNSName(text)
        } catch {
            throw GatewayRefusal(400, "what stands behind /ipns/ is not the name of a key")
        }
        let record = try question.telling { () throws(ServeFault) in
            guard let record = try records?.record(of: name) else { throw .notFound }
            return record
        }
        let etag = "\"\(Self.digest(record.bytes))\""
        var fields = commonFields(request, question)
        fields[.cacheControl] = "public, max-age=\(record.keptSeconds(at: now()))"
        fields[.contentDisposition] = FieldText.attachment(
            question.fileName ?? "\(name).ipns-record")
        fields[.eTag] = etag
        if let response = EntityTag.unmet(request, etag: etag, fields: fields) { return response }
        return ServeResponse(200, fields, .bytes(record.bytes))
    }
}

extension IPNSRecord {
    /// For how long it still holds, in seconds.
    func validSeconds(at now: Timestamp) -> UInt64 {
        let (left, isOver) = validUntil.nanoseconds.subtractingReportingOverflow(now.nanoseconds)
        return isOver ? UInt64(Int64.max / 1_000_000_000) : UInt64(max(0, left) / 1_000_000_000)
    }

    /// For how long nobody needs to ask again, in seconds.
    public func keptSeconds(at now: Timestamp) -> UInt64 {
        min(ttlNanoseconds / 1_000_000_000, validSeconds(at: now))
    }
}
