import FuseSession
import Testing

/// Requests and answers as fuse.h lays them out; the offsets are written out here on purpose, so
/// that the tests do not share them with the code.
private func initRequest(unique: UInt64, flags: UInt32, flags2: UInt32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 104)
    bytes.put(UInt32(104), at: 0)
    bytes.put(UInt32(26), at: 4)
    bytes.put(unique, at: 8)
    bytes.put(UInt32(7), at: 40)
    bytes.put(UInt32(45), at: 44)
    bytes.put(UInt32(131072), at: 48)
    bytes.put(flags, at: 52)
    bytes.put(flags2, at: 56)
    return bytes
}

extension [UInt8] {
    mutating func put<Number: FixedWidthInteger>(_ number: Number, at offset: Int) {
        withUnsafeMutableBytes {
            $0.storeBytes(of: number, toByteOffset: offset, as: Number.self)
        }
    }

    func number<Number: FixedWidthInteger & BitwiseCopyable>(
        at offset: Int, as type: Number.Type
    ) -> Number {
        withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: type) }
    }
}

private func makeOffer(_ bytes: [UInt8]) -> InitOffer? {
    bytes.withUnsafeBytes { bytes in Request(bytes).flatMap(InitOffer.init) }
}

private let parallelDirectoryOperations: UInt32 = 1 << 18
private let handleKillPrivileges: UInt32 = 1 << 28
private let extendedSetExtendedAttribute: UInt32 = 1 << 29
private let initExtended: UInt32 = 1 << 30

@Test func mendedReplyHasWhatIsWantedAndOffered() throws {
    let offer = try #require(
        makeOffer(
            initRequest(
                unique: 2, flags: parallelDirectoryOperations | handleKillPrivileges | 1, flags2: 0)
        ))
    #expect(offer.unique == 2)
    var reply = [UInt8](repeating: 0, count: 64)
    reply.put(UInt32(0x20), at: 12)
    reply.put(UInt32(1 << 20), at: 20)
    let before = reply
    let all = reply.withUnsafeMutableBytes { offer.mend($0, wantsPassthrough: true) }
    let expected = 0x20 | parallelDirectoryOperations | handleKillPrivileges
    #expect(reply.number(at: 12, as: UInt32.self) == expected)
    #expect(all == UInt64(expected))
    // Nothing else is touched: SETXATTR_EXT was not offered, the other fields are libfuse's.
    reply.put(UInt32(0x20), at: 12)
    #expect(reply == before)
}

@Test func mendedReplyNeverSetsWhatTheKernelDoesNotOffer() throws {
    let offer = try #require(makeOffer(initRequest(unique: 1, flags: 0, flags2: .max)))
    var reply = [UInt8](repeating: 0, count: 64)
    reply.put(UInt32(0x20), at: 12)
    _ = reply.withUnsafeMutableBytes { offer.mend($0, wantsPassthrough: true) }
    #expect(reply.number(at: 12, as: UInt32.self) == 0x20)
    #expect(reply.number(at: 32, as: UInt32.self) == 0)
}

@Test func upperFlagsCountOnlyWhereTheyAreSaidToBeMeant() throws {
    let plain = try #require(makeOffer(initRequest(unique: 1, flags: 0, flags2: 1 << 5)))
    #expect(plain.flags == 0)
    let extended = try #require(
        makeOffer(initRequest(unique: 1, flags: initExtended, flags2: 1 << 5)))
    #expect(extended.flags == UInt64(initExtended) | 1 << 37)
}

@Test func passthroughIsAgreedOnWithTheDepthThatItNeeds() throws {
    let offer = try #require(
        makeOffer(initRequest(unique: 1, flags: initExtended, flags2: 1 << 5)))
    var reply = [UInt8](repeating: 0, count: 64)
    let all = reply.withUnsafeMutableBytes { offer.mend($0, wantsPassthrough: true) }
    #expect(all == UInt64(initExtended) | 1 << 37)
    #expect(reply.number(at: 12, as: UInt32.self) == initExtended)
    #expect(reply.number(at: 32, as: UInt32.self) == 1 << 5)
    #expect(reply.number(at: 36, as: UInt32.self) == 1)
}

@Test func passthroughThatIsNotWantedIsNotAskedFor() throws {
    let offer = try #require(
        makeOffer(initRequest(unique: 1, flags: initExtended, flags2: 1 << 5)))
    var reply = [UInt8](repeating: 0, count: 64)
    _ = reply.withUnsafeMutableBytes { offer.mend($0, wantsPassthrough: false) }
    #expect(reply.number(at: 32, as: UInt32.self) == 0)
    #expect(reply.number(at: 36, as: UInt32.self) == 0)
}

@Test(arguments: [true, false], [true, false])
func ringsAreAgreedOnWhereTheyAreWantedAndOffered(areWanted: Bool, areOffered: Bool) throws {
    // FUSE_OVER_IO_URING is bit 41, the ninth of the upper word.
    let offered: UInt32 = areOffered ? 1 << 9 : 0
    let offer = try #require(
        makeOffer(initRequest(unique: 1, flags: initExtended, flags2: offered | 1 << 5)))
    var reply = [UInt8](repeating: 0, count: 64)
    let all = reply.withUnsafeMutableBytes {
        offer.mend($0, wantsPassthrough: false, wantsRings: areWanted)
    }
    let expected: UInt32 = areWanted && areOffered ? 1 << 9 : 0
    #expect(reply.number(at: 32, as: UInt32.self) == expected)
    #expect(all == UInt64(initExtended) | UInt64(expected) << 32)
    #expect(reply.number(at: 36, as: UInt32.self) == 0)
}

@Test func ringsThatAreOfferedWithoutTheUpperWordAreNotAgreedOn() throws {
    let offer = try #require(makeOffer(initRequest(unique: 1, flags: 1, flags2: 1 << 9)))
    var reply = [UInt8](repeating: 0, count: 64)
    _ = reply.withUnsafeMutableBytes {
        offer.mend($0, wantsPassthrough: false, wantsRings: true)
    }
    #expect(reply.number(at: 32, as: UInt32.self) == 0)
}

@Test func mendedReplyKeepsUpperFlagsOfTheLibrary() throws {
    let offer = try #require(
        makeOffer(
            initRequest(
                unique: 1, flags: initExtended | extendedSetExtendedAttribute, flags2: 0)))
    var reply = [UInt8](repeating: 0, count: 64)
    reply.put(UInt32(1 << 4), at: 32)
    _ = reply.withUnsafeMutableBytes { offer.mend($0, wantsPassthrough: true) }
    #expect(reply.number(at: 32, as: UInt32.self) == 1 << 4)
    #expect(
        reply.number(at: 12, as: UInt32.self) == initExtended | extendedSetExtendedAttribute)
}

@Test func repliesOfOldProtocolsAreLeftAlone() throws {
    let offer = try #require(
        makeOffer(initRequest(unique: 1, flags: handleKillPrivileges, flags2: 0)))
    var reply = [UInt8](repeating: 7, count: 24)
    #expect(reply.withUnsafeMutableBytes { offer.mend($0, wantsPassthrough: true) } == nil)
    #expect(reply == [UInt8](repeating: 7, count: 24))
}

@Test func requestsThatEndEarlyGiveNothing() throws {
    let whole = initRequest(unique: 9, flags: 1, flags2: 2)
    for count in 0..<whole.count {
        // The length in the header disagrees with what came.
        #expect(whole[..<count].withUnsafeBytes { Request($0) } == nil)
    }
    for count in 40..<56 {
        var short = Array(whole[..<count])
        short.put(UInt32(count), at: 0)
        #expect(makeOffer(short) == nil)
    }
}

@Test func fieldsOutsideARequestAreNil() throws {
    var bytes = [UInt8](repeating: 0x61, count: 64)
    bytes.put(UInt32(64), at: 0)
    bytes[50] = 0
    try bytes.withUnsafeBytes { bytes in
        let request = try #require(Request(bytes))
        #expect(request.word(at: 60) == 0x6161_6161)
        #expect(request.word(at: 61) == nil)
        #expect(request.bytes(at: 48, count: 16)?.count == 16)
        #expect(request.bytes(at: 48, count: 17) == nil)
        #expect(request.bytes(at: 65, count: 0) == nil)
        #expect(request.bytes(at: 48, count: -1) == nil)
        #expect(request.name(at: 40).map { [UInt8]($0) } == [UInt8](repeating: 0x61, count: 10))
        #expect(request.name(at: 50)?.isEmpty == true)
        #expect(request.name(at: 51) == nil)
        #expect(request.name(at: 64) == nil)
        #expect(request.name(at: 65) == nil)
    }
}
