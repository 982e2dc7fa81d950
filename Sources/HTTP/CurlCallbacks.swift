internal import CCurl
internal import Glibc

/// Lines for curl, freed when the list ends.
final class HeaderList {
    let first: UnsafeMutablePointer<curl_slist>?

    /// Nil where there is no memory.
    init?(_ lines: [String]) {
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines {
            guard let longer = curl_slist_append(list, line) else {
                curl_slist_free_all(list)
                return nil
            }
            list = longer
        }
        first = list
    }

    deinit {
        curl_slist_free_all(first)
    }
}

// curl's callbacks. The context is the exchange, which `transfer` keeps alive.

private func exchange(_ context: UnsafeMutableRawPointer) -> Exchange {
    Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
}

func curlWrite(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return 0 }
    return exchange(context).takeBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
}

func curlRead(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return Int(CURL_READFUNC_ABORT) }
    return exchange(context).read(
        into: UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
}

func curlHeader(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
    _ context: UnsafeMutableRawPointer?
) -> Int {
    guard let context else { return 0 }
    let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
    return exchange(context).takeHeader(line) ? line.count : 0
}

func curlSeek(_ context: UnsafeMutableRawPointer?, _ offset: curl_off_t, _ origin: Int32)
    -> Int32
{
    guard let context, offset == 0, origin == SEEK_SET else { return CURL_SEEKFUNC_CANTSEEK }
    return exchange(context).rewind() ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL
}

/// Makes a socket for a public address, and for no other. The context is the session.
func curlOpenPublicSocket(
    _ context: UnsafeMutableRawPointer?, _ purpose: curlsocktype,
    _ address: UnsafeMutablePointer<curl_sockaddr>?
) -> curl_socket_t {
    guard let context, let address, let bytes = rfs_curl_address(address) else {
        return CURL_SOCKET_BAD
    }
    let raw = UnsafeRawBufferPointer(start: bytes, count: Int(address.pointee.addrlen))
    guard PublicAddress.isPublic(raw) else {
        Unmanaged<CurlSession>.fromOpaque(context).takeUnretainedValue().hasRefusedAddress = true
        return CURL_SOCKET_BAD
    }
    return socket(
        address.pointee.family, address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue),
        address.pointee.protocol)
}
