/// The types of files by the ends of their names.
enum ContentTypes {
    /// The type of a file by its name; nil where the end of the name says nothing.
    static func type(ofFileNamed name: String) -> String? {
        guard let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")) else { return nil }
        let ending = name.utf8[name.utf8.index(after: dot)...]
        guard (1...longest).contains(ending.count) else { return nil }
        return types[String(decoding: ending, as: UTF8.self).lowercased()]
    }

    /// The longest end that the table has, in bytes.
    private static let longest = 11

    private static let types: [String: String] = {
        var types: [String: String] = [:]
        for line in table.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let type = words.first else { continue }
            // Of a text in another encoding the browser would otherwise have to guess; HTML says itself.
            let full = type.hasPrefix("text/") && type != "text/html"
            for ending in words.dropFirst() {
                types[String(ending)] = full ? "\(type); charset=utf-8" : String(type)
            }
        }
        return types
    }()

    /// From the registry of media types; where it has several for one ending, what browsers take.
    private static let table = """
        text/html html htm shtml
        text/css css
        text/javascript js mjs
        text/plain txt text log conf ini toml
        text/markdown md markdown
        text/csv csv
        text/tab-separated-values tsv
        text/calendar ics
        text/vtt vtt
        text/x-c c h
        text/x-go go
        text/x-python py
        text/x-rust rs
        text/x-swift swift
        text/x-diff diff patch
        application/json json map
        application/geo+json geojson
        application/ld+json jsonld
        application/manifest+json webmanifest
        application/yaml yaml yml
        application/xml xml xsd
        application/xhtml+xml xhtml
        application/rss+xml rss
        application/atom+xml atom
        application/wasm wasm
        application/pdf pdf
        application/rtf rtf
        application/epub+zip epub
        application/postscript ps eps
        application/sql sql
        application/x-sh sh
        application/cbor cbor
        application/vnd.ipld.car car
        application/zip zip
        application/gzip gz tgz
        application/zstd zst
        application/x-bzip2 bz2
        application/x-xz xz
        application/x-tar tar
        application/x-7z-compressed 7z
        application/vnd.rar rar
        application/java-archive jar
        application/vnd.android.package-archive apk
        application/vnd.debian.binary-package deb
        application/x-rpm rpm
        application/x-iso9660-image iso
        application/x-bittorrent torrent
        application/msword doc
        application/vnd.ms-excel xls
        application/vnd.ms-powerpoint ppt
        application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
        application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
        application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
        application/vnd.oasis.opendocument.text odt
        application/vnd.oasis.opendocument.spreadsheet ods
        application/vnd.oasis.opendocument.presentation odp
        application/vnd.sqlite3 sqlite sqlite3
        application/vnd.apache.parquet parquet
        application/octet-stream bin exe dll dmg img
        font/woff woff
        font/woff2 woff2
        font/ttf ttf
        font/otf otf
        image/png png
        image/jpeg jpg jpeg jfif
        image/gif gif
        image/webp webp
        image/avif avif
        image/heic heic
        image/jxl jxl
        image/bmp bmp
        image/tiff tif tiff
        image/svg+xml svg
        image/vnd.microsoft.icon ico
        audio/mpeg mp3
        audio/mp4 m4a
        audio/aac aac
        audio/flac flac
        audio/ogg oga ogg opus
        audio/wav wav
        audio/midi mid midi
        video/mp4 mp4 m4v
        video/webm webm
        video/ogg ogv
        video/quicktime mov
        video/x-matroska mkv
        video/x-msvideo avi
        video/mpeg mpg mpeg
        video/mp2t m2ts
        application/vnd.apple.mpegurl m3u8
        application/dash+xml mpd
        model/gltf+json gltf
        model/gltf-binary glb
        model/stl stl
        """
}
