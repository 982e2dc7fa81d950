import Foundation

/// The archives of the specification.
/// Source: https://ipld.io/specs/transport/car/fixture
enum Vectors {
    static let carV1Basic = bytes(
        """
        Y6Jlcm9vdHOC2CpYJQABcRIg+IvIU4BM8pT+QX5PqDAoaJ/NsbFZLFEC4UdNvCAPq4vYKlglAAFxEiBp6gdA+YB6KP
        TZMsYufByDvgVeVQcskCZqs+ed9jo2W2d2ZXJzaW9uAVsBcRIg+IvIU4BM8pT+QX5PqDAoaJ/NsbFZLFEC4UdNvCAP
        q4uiZGxpbmvYKlgjABIgAqzsxd4kOOpBJqMBDssfilmcjv8i//Gh3P/pmbJ/095kbmFtZWRibGlwgwESIAKs7MXeJD
        jqQSajAQ7LH4pZnI7/Iv/xodz/6Zmyf9PeEi4KJAFVEiC2+9Z1+Y4qvSLU7Sn9yDFQ/txIWX6S3Rp6JDgdRKJ0URIE
        YmVhchgEEi8KIhIgeamC3jyZB5U9TTI87h0Pse2PRfjvAocMDLngkka9UwoSBnNlY29uZBiVASgBVRIgtvvWdfmOKr
        0i1O0p/cgxUP7cSFl+kt0aeiQ4HUSidFFjY2NjgAESIHmpgt48mQeVPU0yPO4dD7Htj0X47wKHDAy54JJGvVMKEi0K
        JAFVEiCBzFsXAYZ0tAG0LzW6B7t54hEjnCO//mWNoVd+PmRodxIDZG9nGAQSLQoiEiDn3Ehul+br5c2rqz45K9rRKL
        bgmsyUu04qoq97mG0k0BIFZmlyc3QYMygBVRIggcxbFwGGdLQBtC81uge7eeIRI5wjv/5ljaFXfj5kaHdiYmJiURIg
        59xIbpfm6+XNq6s+OSva0Si24JrMlLtOKqKve5htJNASLQokAVUSIGG+Vaji9rThcjOL3fGE1tvuKcmIU+CgSF7O5/
        J7mvC0EgNjYXQYBCgBVRIgYb5VqOL2tOFyM4vd8YTW2+4pyYhT4KBIXs7n8nua8LRhYWFhNgFxEiBp6gdA+YB6KPTZ
        MsYufByDvgVeVQcskCZqs+ed9jo2W6JkbGlua/ZkbmFtZWVsaW1ibw==
        """)

    /// Its index has no codec in front, so it is one of an unknown kind.
    static let carV2Basic = bytes(
        """
        CqFndmVyc2lvbgIAAAAAAAAAAAAAAAAAAAAAMwAAAAAAAADAAQAAAAAAAPMBAAAAAAAAOKJlcm9vdHOB2CpYIwASIP
        sW9Qg0Eu8TcdAx7UqiOZA9hO/a3xujzWeOZHWxojL4Z3ZlcnNpb24BURIg+xb1CDQS7xNx0DHtSqI5kD2E79rfG6PN
        Z45kdbGiMvgSLQoiEiDZwNU3bSbxkx961S16zAD8EJDS7bCAi/Ye6woVKCb2JhIE8J+NpBikAYUBEiDZwNU3bSbxkx
        961S16zAD8EJDS7bCAi/Ye6woVKCb2JhIxCiISINdFt3V/W0WT7qt4IDBse8ZOtJanQQoNB996NP/sS5fxEgliYXJy
        ZWxleWUYOhIuCiQBVRIgouHEDaGuM11N/+cp601cojt0ueUfxTX0qASiYQgMKU0SBPCfkKEYB1gSINdFt3V/W0WT7q
        t4IDBse8ZOtJanQQoNB996NP/sS5fxEjQKJAFVEiC0dKmaJwXiPPkFpITsbRTvWLVrvmLpKSeDRm7DY7UHLRIKZmlz
        aG1vbmdlchgEKAFVEiC0dKmaJwXiPPkFpITsbRTvWLVrvmLpKSeDRm7DY7UHLWZpc2grAVUSIKLhxA2hrjNdTf/nKe
        tNXKI7dLnlH8U19KgEomEIDClNbG9ic3RlcgEAAAAoAAAAyAAAAAAAAACi4cQNoa4zXU3/5ynrTVyiO3S55R/FNfSo
        BKJhCAwpTZQBAAAAAAAAtHSpmicF4jz5BaSE7G0U71i1a75i6Skng0Zuw2O1By1rAQAAAAAAANdFt3V/W0WT7qt4ID
        Bse8ZOtJanQQoNB996NP/sS5fxEgEAAAAAAADZwNU3bSbxkx961S16zAD8EJDS7bCAi/Ye6woVKCb2JosAAAAAAAAA
        +xb1CDQS7xNx0DHtSqI5kD2E79rfG6PNZ45kdbGiMvg5AAAAAAAAAA==
        """)

    private static func bytes(_ text: String) -> [UInt8] {
        guard let data = Data(base64Encoded: text, options: .ignoreUnknownCharacters) else {
            preconditionFailure("the vector is no base64")
        }
        return Array(data)
    }
}
