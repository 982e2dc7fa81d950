import FuseSession
import Testing

private func configuration(_ options: String) throws(FuseError) -> FuseConfiguration {
    var configuration = FuseConfiguration()
    try configuration.apply(options: options)
    return configuration
}

private let noSetID: UInt = 2
private let noDevices: UInt = 4
private let noExecution: UInt = 8
private let noAccessTimes: UInt = 1024

@Test func setIDBitsAndDevicesAreOffUnlessAskedFor() throws {
    #expect(try configuration("").mountFlags == noSetID | noDevices)
    #expect(try configuration("suid,dev").mountFlags == 0)
    #expect(try configuration("suid,nosuid,dev").mountFlags == noSetID)
}

@Test func userImpliesWhatMountSaysAndLaterOptionsTakeItBack() throws {
    #expect(try configuration("suid,dev,user").mountFlags == noSetID | noDevices | noExecution)
    #expect(try configuration("user,exec").mountFlags == noSetID | noDevices)
    #expect(try configuration("owner,noatime").mountFlags == noSetID | noDevices | noAccessTimes)
}

@Test func theLastOfReadOnlyAndReadWriteHolds() throws {
    #expect(try configuration("ro").isReadOnly)
    #expect(try !configuration("ro,rw").isReadOnly)
    #expect(try configuration("rw,defaults,ro").isReadOnly)
}

@Test func optionsForFstabAndItsReadersHaveNoEffect() throws {
    let options = "defaults,auto,noauto,nofail,_netdev,x-systemd.automount,X-mount.mkdir=0755,"
    #expect(try configuration(options) == FuseConfiguration())
    #expect(try configuration("x-gvfs-show,default_permissions,rw") == FuseConfiguration())
}

@Test func fuseOptionsAreTaken() throws {
    let taken = try configuration(
        "allow_other,nonempty,fsname=store=1,subtype=registryfs,threads=4,entry_timeout=0,"
            + "attr_timeout=1,negative_timeout=2,max_background=65535,file_handles")
    #expect(taken.allowsOthers)
    #expect(taken.allowsNonEmptyMountPoint)
    #expect(taken.fsname == "store=1")
    #expect(taken.threads == 4)
    #expect(taken.entryTimeoutSeconds == 0)
    #expect(taken.attributeTimeoutSeconds == 1)
    #expect(taken.negativeTimeoutSeconds == 2)
    #expect(taken.backgroundRequestsMax == 65535)
    #expect(taken.keepsFileHandles)
    #expect(try !configuration("").keepsFileHandles)
}

@Test(arguments: ["bogus", "allow_root", "RO", "max_reed=3", "=", "ro,bogus", "x"])
func unknownOptionsAreNamed(_ options: String) throws {
    #expect {
        try configuration(options)
    } throws: { error in
        guard case .unknownOption(let name)? = error as? FuseError else { return false }
        return options.contains(name)
    }
}

@Test(
    arguments: [
        "threads=0", "threads=257", "threads=-1", "threads=", "threads=x", "subtype=other",
        "fsname=", "max_background=65536", "entry_timeout=99999999999999999999", "attr_timeout=1.5",
    ])
func valuesThatDoNotFitAreRefused(_ option: String) throws {
    #expect {
        try configuration(option)
    } throws: { error in
        guard case .invalidOption(let named, _)? = error as? FuseError else { return false }
        return named == option
    }
}
