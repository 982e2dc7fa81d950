/// The release that the double says it is; its recorded exchanges are replayed against it.
public let kuboDoubleVersion = "0.43.0-rc1"
