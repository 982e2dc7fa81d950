import Base
import FuseSession
import Testing

private let directory = Inode(7)

@Test func pagesOfAnUnchangedDirectoryStay() {
    let listings = ListingGuard()
    listings.begin(directory)
    #expect(!listings.end(directory))
    listings.begin(directory)
    listings.begin(directory)
    #expect(!listings.end(directory))
    #expect(!listings.end(directory))
}

@Test func pagesThatSawAChangeGoBeforeTheyAreComplete() {
    let listings = ListingGuard()
    listings.begin(directory)
    #expect(!listings.change(directory))
    // Another listing that begins after the change does not make the pages of the first good.
    listings.begin(directory)
    #expect(listings.end(directory))
    #expect(!listings.end(directory))
}

@Test func theFirstChangeAfterTheEndDropsThePagesAndLaterOnesNeedNot() {
    let listings = ListingGuard()
    listings.begin(directory)
    _ = listings.end(directory)
    #expect(listings.change(directory))
    #expect(!listings.change(directory))
    // What another listing gathered from before these changes on must not stay either.
    #expect(listings.end(directory))
}

@Test func aListingThatBeganBeforeTheEndOfAnotherDoesNotHideTheEnd() {
    let listings = ListingGuard()
    listings.begin(directory)
    _ = listings.end(directory)
    listings.begin(directory)
    #expect(listings.change(directory))
}

@Test func pagesOfUnknownOriginGo() {
    let listings = ListingGuard()
    #expect(listings.end(directory))
}

@Test func changesOfOtherDirectoriesDoNotCount() {
    let listings = ListingGuard()
    listings.begin(directory)
    _ = listings.end(directory)
    #expect(!listings.change(Inode(8)))
    listings.begin(directory)
    #expect(!listings.change(Inode(8)))
    #expect(!listings.end(directory))
}

@Test func moreDirectoriesThanAreKeptAreTreatedAsUnknown() {
    let listings = ListingGuard()
    listings.begin(directory)
    for number in 100..<200_000 { listings.begin(Inode(UInt64(number))) }
    #expect(listings.end(directory))
}
