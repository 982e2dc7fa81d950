/// The bounds of what a registry remembers and of what a request costs.
package struct RegistryLimits: Sendable {
    /// The most manifests of a repository that are looked at for what they refer to.
    package var manifestsMax = 20_000
    /// What the referrers of one repository come to at most, in bytes.
    package var repositoryBytesMax = 8 << 20
    /// What is remembered of the referrers of all repositories, in bytes.
    package var referrersBytesMax = 16 << 20
    package var repositoriesMax = 256
    /// How long one request reads manifests for their referrers, or waits for one that does; how long one walks for a catalog.
    package var millisecondsMax: Int64 = 5_000
    /// After how long bytes that were not there are looked for again.
    package var absenceMilliseconds: Int64 = 30_000
    /// The most directories that are read, or tags that are looked at, for one page of a list.
    package var looksMax = 1 << 14
    /// The most names of directories that are held at a time for a catalog.
    package var heldNamesMax = 1 << 19

    package init() {}
}
