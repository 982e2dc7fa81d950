internal import HTTPTypes
internal import RegistryNames

// What a registry answers where it does not give what it was asked for.
//
// Body:   {"errors":[{"code":"…","message":"…","detail":{…}}]}
// Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes, and for the codes that only the
//         stock registry has, its api/errcode.

/// A refusal, in the words of OCI.
struct RegistryError: Error {
    enum Code: String {
        case blobUnknown = "BLOB_UNKNOWN"
        case denied = "DENIED"
        case uploadUnknown = "BLOB_UPLOAD_UNKNOWN"
        case digestInvalid = "DIGEST_INVALID"
        case manifestUnknown = "MANIFEST_UNKNOWN"
        case nameInvalid = "NAME_INVALID"
        case nameUnknown = "NAME_UNKNOWN"
        case pageInvalid = "PAGINATION_NUMBER_INVALID"
        case rangeInvalid = "RANGE_INVALID"
        case tooManyRequests = "TOOMANYREQUESTS"
        case unauthorized = "UNAUTHORIZED"
        case unavailable = "UNAVAILABLE"
        case unknown = "UNKNOWN"
        case unsupported = "UNSUPPORTED"
    }

    /// The longest text that is given back to who wrote it, in bytes: any valid name and digest.
    private static let detailLengthMax = 512

    var status: Int
    var code: Code
    var message: String
    var detail: [(name: String, value: String)] = []

    static let readOnly = RegistryError(
        status: 405, code: .unsupported,
        message: "this registry is read-only: it gives what there is, and takes nothing")
    static let noEndpoint = RegistryError(
        status: 404, code: .nameUnknown, message: "no such endpoint of a registry")
    static let uploadUnknown = RegistryError(
        status: 404, code: .uploadUnknown, message: "this registry is read-only: it has no uploads")
    /// Not NAME_UNKNOWN: clients look for the tag that stands for a list of referrers where a registry has none.
    static let noReferrers = RegistryError(
        status: 404, code: .unsupported,
        message: "this repository is too large for lists of referrers")
    static let unavailable = RegistryError(
        status: 503, code: .unavailable, message: "what is served is away for the moment")
    static let timedOut = RegistryError(
        status: 504, code: .unavailable, message: "it took too long to get this")
    static let tooLarge = RegistryError(
        status: 500, code: .unknown, message: "this is larger than what the registry gives")
    static let failed = RegistryError(
        status: 500, code: .unknown, message: "the registry could not read this")
    static let damaged = RegistryError(
        status: 500, code: .unknown, message: "the bytes of this are not those of its digest")
    static let rangeInvalid = RegistryError(
        status: 416, code: .rangeInvalid, message: "none of the ranges lies within the blob")

    /// What a server refuses before a registry is asked; nil for what OCI has no word for.
    static func ofServer(_ status: Int) -> RegistryError? {
        switch status {
        case 401:
            RegistryError(status: 401, code: .unauthorized, message: "a token is needed")
        case 403:
            RegistryError(status: 403, code: .denied, message: "not from this address")
        case 413:
            RegistryError(status: 413, code: .unsupported, message: readOnly.message)
        case 429:
            RegistryError(
                status: 429, code: .tooManyRequests, message: "too many requests at once")
        case 503: unavailable
        default: nil
        }
    }

    static func nameInvalid(_ name: String) -> RegistryError {
        RegistryError(
            status: 400, code: .nameInvalid, message: "invalid repository name",
            detail: [("name", name)])
    }

    static func nameUnknown(_ name: String) -> RegistryError {
        RegistryError(
            status: 404, code: .nameUnknown, message: "repository name not known to registry",
            detail: [("name", name)])
    }

    static func manifestUnknown(_ name: String, reference: String) -> RegistryError {
        RegistryError(
            status: 404, code: .manifestUnknown, message: "manifest unknown",
            detail: [("name", name), ("reference", reference)])
    }

    static func blobUnknown(_ name: String, digest: RegistryDigest) -> RegistryError {
        RegistryError(
            status: 404, code: .blobUnknown, message: "blob unknown to registry",
            detail: [("name", name), ("digest", digest.text)])
    }

    static func digestInvalid(_ digest: String) -> RegistryError {
        RegistryError(
            status: 400, code: .digestInvalid,
            message: "a digest is sha256: or sha512: and lowercase hexadecimal digits",
            detail: [("digest", digest)])
    }

    static func pageInvalid(_ number: String) -> RegistryError {
        RegistryError(
            status: 400, code: .pageInvalid,
            message: "n is the largest number of results, 0 or more",
            detail: [("n", number)])
    }

    var body: [UInt8] {
        var error: [(name: String, value: JSONText)] = [
            ("code", .string(code.rawValue)), ("message", .string(message)),
        ]
        if !detail.isEmpty {
            let shown = detail.map { ($0.name, JSONText.string(Self.shortened($0.value))) }
            error.append(("detail", .object(shown)))
        }
        return JSONText.object([("errors", .list([.object(error)]))]).bytes
    }

    /// What a client wrote may be as long as a target.
    private static func shortened(_ text: String) -> String {
        text.utf8.count <= detailLengthMax
            ? text : String(decoding: text.utf8.prefix(detailLengthMax), as: UTF8.self) + "…"
    }

    var response: ServeResponse {
        var fields = HTTPFields.ofRegistry(type: "application/json", cacheControl: "no-store")
        switch status {
        case 405: fields[.allow] = "GET, HEAD"
        case 503: fields[.retryAfter] = "1"
        default: break
        }
        return ServeResponse(status, fields, .bytes(body))
    }
}

extension HTTPField.Name {
    static let registryVersion = known("Docker-Distribution-Api-Version")
    static let contentDigest = known("Docker-Content-Digest")
    static let filtersApplied = known("OCI-Filters-Applied")
    static let registryNamespace = known("OCI-Namespace")
    static let link = known("Link")

    private static func known(_ name: String) -> HTTPField.Name {
        guard let known = HTTPField.Name(name) else {
            preconditionFailure("\(name) is no name of a field")
        }
        return known
    }
}

extension HTTPFields {
    /// What all answers of a registry have.
    static func ofRegistry(type: String, cacheControl: String) -> HTTPFields {
        var fields = HTTPFields()
        fields[.registryVersion] = "registry/2.0"
        fields[.contentType] = type
        fields[.cacheControl] = cacheControl
        // No browser is to find a page in what somebody pushed.
        fields[.xContentTypeOptions] = "nosniff"
        return fields
    }
}
