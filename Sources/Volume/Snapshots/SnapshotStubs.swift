extension Volume {
    /// Tells what differs between two trees, in the order of the names' bytes, until the body answers false. Looks only into
    /// what differs. Blocks for blocks that are elsewhere.
    ///
    /// - Throws: `snapshot`, `tree`, `operation`.
    public func forEachDifference(
        from old: ComparedTree, to new: ComparedTree, _ body: (TreeDifference) -> Bool
    ) throws(VolumeError) { throw .tree("stub") }
}
