"""Pushes images of many kinds to a registry: image-kinds.py HOST:PORT SEED. Prints `REPOSITORY TAG DIGEST KIND` for each.

A kind is `image` where an engine can unpack it, `index` where it is a list of images, and `artifact` for everything else.
Formats: OCI image specification 1.1, Docker image manifest version 2 schema 2.
"""

import gzip
import hashlib
import http.client
import io
import json
import random
import subprocess
import sys
import tarfile

HOST = sys.argv[1]
CHANCE = random.Random(int(sys.argv[2]))
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
EMPTY = b"{}"


def request(method, path, body=b"", headers=None):
    connection = http.client.HTTPConnection(HOST, timeout=60)
    connection.request(method, path, body, headers or {})
    reply = connection.getresponse()
    data = reply.read()
    if reply.status >= 300:
        sys.exit(f"{method} {path}: {reply.status} {data[:300]!r}")
    return reply.headers


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob(repository, data, media_type):
    where = request("POST", f"/v2/{repository}/blobs/uploads/")["Location"]
    path = where.split(HOST, 1)[-1]
    request("PUT", f"{path}&digest={digest_of(data)}", data, {"Content-Type": "application/octet-stream"})
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def manifest(repository, tag, content, media_type):
    data = json.dumps(content, separators=(",", ":")).encode()
    for name in filter(None, [digest_of(data), tag]):
        request("PUT", f"/v2/{repository}/manifests/{name}", data, {"Content-Type": media_type})
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def layer(repository, style, number):
    plain = tar({f"file-{number}": CHANCE.randbytes(CHANCE.randint(1, 60_000))} if style != "empty" else {})
    kind = DOCKER + "image.rootfs.diff.tar.gzip" if style == "docker" else OCI + "layer.v1.tar+gzip"
    data = gzip.compress(plain, mtime=0)
    if style == "zstd":
        kind, data = OCI + "layer.v1.tar+zstd", subprocess.run(["zstd", "-q", "-c"], input=plain, capture_output=True, check=True).stdout
    if style == "plain":
        kind, data = OCI + "layer.v1.tar", plain
    return blob(repository, data, kind), digest_of(plain)


def image(repository, tag, style, layers, architecture="amd64", **more):
    made = [layer(repository, style, number) for number in range(layers)]
    config = json.dumps({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [plain for _, plain in made]},
    }).encode()
    docker = style == "docker"
    kind = DOCKER + "distribution.manifest.v2+json" if docker else OCI + "manifest.v1+json"
    content = {
        "schemaVersion": 2, "mediaType": kind,
        "config": blob(repository, config, DOCKER + "container.image.v1+json" if docker else OCI + "config.v1+json"),
        "layers": [descriptor for descriptor, _ in made], **more,
    }
    return manifest(repository, tag, content, kind)


def index(repository, tag, members, docker=False, **more):
    kind = DOCKER + "distribution.manifest.list.v2+json" if docker else OCI + "index.v1+json"
    return manifest(repository, tag, {"schemaVersion": 2, "mediaType": kind, "manifests": members, **more}, kind)


def artifact(repository, tag, kind, data, **more):
    content = {
        "schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "artifactType": kind,
        "config": blob(repository, EMPTY, "application/vnd.oci.empty.v1+json"),
        "layers": [blob(repository, data, kind + ".data")], **more,
    }
    return manifest(repository, tag, content, OCI + "manifest.v1+json")


def platform(descriptor, architecture):
    return {**descriptor, "platform": {"architecture": architecture, "os": "linux"}}


def tell(repository, tag, descriptor, kind):
    print(repository, tag, descriptor["digest"], kind, flush=True)


number = 0
for style in ("oci", "docker", "zstd", "plain", "empty"):
    for layers in (1, 2, 7):
        number += 1
        name = f"kinds/{style}"
        tell(name, f"v{layers}", image(name, f"v{layers}", style, layers), "image")
for style in ("oci", "docker"):
    for count in (1, 2, 3):
        name = f"lists/{style}"
        members = [
            platform(image(name, None, style, 2, architecture), architecture)
            for architecture in ("amd64", "arm64", "s390x")[:count]
        ]
        tell(name, f"of-{count}", index(name, f"of-{count}", members, style == "docker"), "index")
# As buildkit makes it: the attestation is a member whose platform is unknown.
for number in (1, 2, 3):
    name = f"attested/app-{number}"
    one = image(name, None, "oci", 1)
    statement = artifact(name, None, "application/vnd.in-toto+json", b'{"_type":"https://in-toto.io/Statement/v0.1"}')
    members = [platform(one, "amd64"), {
        **statement, "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": one["digest"]},
    }]
    tell(name, "latest", index(name, "latest", members), "index")
nested = index("lists/nested", None, [platform(image("lists/nested", None, "oci", 1), "amd64")])
tell("lists/nested", "of-lists", index("lists/nested", "of-lists", [nested]), "artifact")
for number, kind in enumerate(("application/vnd.cncf.helm.chart.v1", "application/vnd.wasm.content.v1", "application/spdx+json")):
    name = f"artifacts/of-{number}"
    tell(name, "v1", artifact(name, "v1", kind, CHANCE.randbytes(5000)), "artifact")
subject = image("signed/app", "v1", "oci", 1)
tell("signed/app", "v1", subject, "image")
tell("signed/app", "signature", artifact(
    "signed/app", "signature", "application/vnd.dev.cosign.artifact.sig.v1+json", b"a signature",
    subject=subject, annotations={"of": "v1"}), "artifact")
large = {"schemaVersion": 2, "annotations": {f"note-{number}": "x" * 1000 for number in range(500)}}
tell("kinds/large-manifest", "v1", image("kinds/large-manifest", "v1", "oci", 1, annotations=large["annotations"]), "image")
