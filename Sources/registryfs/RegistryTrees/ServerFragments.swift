import RegistryLayout

// What a web server has to be told of a static registry, for nothing in a file's name says of what type it is:
//
// nginx-static.conf         for the http block: maps from the path of a manifest to its type and its digest
// nginx-static-server.conf  for a server block: the locations
// Caddyfile.static          a snippet `(registry_static)`, to be imported in a site
//
// Validity: paths have the characters of repositories, tags and digests alone, and types those of `ManifestType`: of these `$` alone means
//           something, and to nginx alone, which has no way to escape it: a variable that is a `$` stands for it.
// Source:   docs/STATIC.md tells how each is used.

/// The configuration of web servers for a directory.
struct ServerFragments {
    /// By the names that they have in the directory.
    let files: [(name: String, text: String)]

    private static let index = "application/vnd.oci.image.index.v1+json"

    init(_ tree: StaticTree, directory: String) throws(Failure) {
        let isPlain = directory.unicodeScalars.allSatisfy { scalar in
            scalar.value > 0x20 && scalar.value < 0x7f
                && !"\"\\{}$;'#`".unicodeScalars.contains(scalar)
        }
        guard isPlain else {
            throw Failure(
                "--dir \(RawText.shown(directory)): the files are there; for the configuration of servers its "
                    + "name must be letters, digits and - _ . / alone")
        }
        files = [
            ("nginx-static.conf", Self.nginxMaps(tree.types)),
            ("nginx-static-server.conf", Self.nginxLocations(directory)),
            ("Caddyfile.static", Self.caddy(tree.types, directory)),
        ]
    }

    private static func nginxMaps(_ types: [StaticType]) -> String {
        var lines = [
            "# Made by registryfs export-static: include it in the http block, and reload when it has changed.",
            "map_hash_bucket_size 1024;", "map_hash_max_size \(max(2048, 4 * types.count));",
            "map $uri $registry_static_type {", "    default application/octet-stream;",
        ]
        let keys = nginxKeys(types)
        lines += zip(keys, types).map { "    \"\($0)\" \"\(nginxText($1.mediaType))\";" }
        lines += ["}", "map $uri $registry_static_digest {", "    default \"\";"]
        lines += zip(keys, types).map { "    \"\($0)\" \"\($1.digest)\";" }
        lines.append(
            "    \"~^/v2/.+/blobs/(?<registry_static_blob>[a-z0-9]+:[0-9a-f]+)$\" $registry_static_blob;"
        )
        lines.append("}")
        if types.contains(where: { $0.mediaType.contains("$") }) {
            // What geo sets has no variables in it.
            lines.append("geo $registry_static_dollar { default \"$\"; }")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// A type is what whoever made the manifest says: it must not name a variable.
    private static func nginxText(_ type: String) -> String {
        type.split(separator: "$", omittingEmptySubsequences: false)
            .joined(separator: "${registry_static_dollar}")
    }

    /// A map compares texts without regard to case, and expressions with it: what would be one text is made two expressions.
    private static func nginxKeys(_ types: [StaticType]) -> [String] {
        let counts = Dictionary(types.map { ($0.path.lowercased(), 1) }, uniquingKeysWith: +)
        return types.map { type in
            guard counts[type.path.lowercased()] != 1 else { return type.path }
            return "~^"
                + type.path.split(separator: ".", omittingEmptySubsequences: false)
                .joined(separator: "\\.") + "$"
        }
    }

    private static func nginxLocations(_ directory: String) -> String {
        """
        # Made by registryfs export-static: include it in a server block.
        location = /v2/ {
            default_type application/json;
            add_header Docker-Distribution-Api-Version registry/2.0 always;
            return 200 "{}";
        }
        location = /v2 { return 301 /v2/; }
        location /v2/ {
            root \(directory);
            gzip off;
            types {}
            default_type application/octet-stream;
            error_page 404 @registry_static_missing;
            add_header Docker-Distribution-Api-Version registry/2.0 always;

            location ~ ^/v2/.+/manifests/[^/]+$ {
                root \(directory);
                types {}
                default_type "";
                add_header Content-Type $registry_static_type;
                add_header Docker-Content-Digest $registry_static_digest;
                add_header Docker-Distribution-Api-Version registry/2.0 always;
            }
            location ~ ^/v2/.+/blobs/[^/]+$ {
                root \(directory);
                types {}
                add_header Docker-Content-Digest $registry_static_digest;
                add_header Docker-Distribution-Api-Version registry/2.0 always;
            }
            location ~ ^/v2/.+/referrers/[^/]+$ {
                root \(directory);
                types {}
                default_type \(index);
            }
            location ~ ^/v2/(_catalog|.+/tags/list)$ {
                root \(directory);
                types {}
                default_type application/json;
            }
        }
        location @registry_static_missing {
            internal;
            default_type application/json;
            return 404 '{"errors":[{"code":"NAME_UNKNOWN","message":"not in this registry, which is only files"}]}';
        }

        """
    }

    private static func caddy(_ types: [StaticType], _ directory: String) -> String {
        var lines = [
            "# Made by registryfs export-static: import it before a site, and have the site `import registry_static`.",
            "(registry_static) {", "    root * \(directory)",
            "    map {path} {registry_type} {registry_digest} {",
        ]
        lines += types.map { "        \"\($0.path)\" \"\($0.mediaType)\" \"\($0.digest)\"" }
        lines += [
            "        default application/octet-stream \"\"", "    }",
            "    @manifest path_regexp ^/v2/.+/manifests/[^/]+$",
            "    header @manifest Content-Type {registry_type}",
            "    header @manifest Docker-Content-Digest {registry_digest}",
            "    @blob path_regexp ^/v2/.+/blobs/[^/]+$",
            "    header @blob Content-Type application/octet-stream",
            "    @referrers path_regexp ^/v2/.+/referrers/[^/]+$",
            "    header @referrers Content-Type \(index)",
            "    @list path_regexp ^/v2/(_catalog|.+/tags/list)$",
            "    header @list Content-Type application/json",
            "    header /v2/* Docker-Distribution-Api-Version registry/2.0",
            "    @ping path /v2 /v2/", "    header @ping Content-Type application/json",
            "    respond @ping \"{}\" 200",
            "    file_server", "}",
        ]
        return lines.joined(separator: "\n") + "\n"
    }
}
