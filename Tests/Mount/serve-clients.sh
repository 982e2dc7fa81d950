#!/usr/bin/env bash
# Container engines pull images of all kinds from a served volume, with the configuration of a mirror that docs/SERVING.md has.
source "$(dirname "$0")/lib.sh"
source "$here/clients-lib.sh"

volume_up
registry_up
with_seed
python3 "$here/image-kinds.py" "127.0.0.1:$port" "$seed" >"$work/images" || fail "not all images were pushed"
(($(wc -l <"$work/images") >= 30)) || fail "only $(wc -l <"$work/images") images"
registry_down

server_port=$(free_port)
server=127.0.0.1:$server_port
setsid "$registryfs" serve --listen "$server" --state-dir "$state" >"$work/server.log" 2>&1 </dev/null &
background+=("$!")
wait_for 30 grep -q "serving at" "$work/server.log" || fail "no server: $(<"$work/server.log")"

begin "skopeo takes every kind whole, with the digest that was pushed"
while read -r name tag digest kind; do
    rm -rf "$work/copy"
    within 60 skopeo --insecure-policy copy -q --all --preserve-digests --src-tls-verify=false \
        "docker://$server/$name:$tag" "dir:$work/copy" || fail "$name:$tag ($kind) does not come"
    same "digest of $name:$tag" "$digest" "sha256:$(sha256sum "$work/copy/manifest.json" | cut -d' ' -f1)"
done < <(grep -v ' lists/nested\|^lists/nested' "$work/images")

begin "manifests of every kind come by tag and digest, with their types"
while read -r name tag digest kind; do
    for reference in "$tag" "$digest"; do
        curl -sf -D "$work/head" -o "$work/body" "http://$server/v2/$name/manifests/$reference" || fail "$name:$reference"
        same "$name:$reference" "$digest" "sha256:$(sha256sum "$work/body" | cut -d' ' -f1)"
        same "type of $name" "$(jq -r .mediaType "$work/body")" \
            "$(sed -n 's/^content-type: \([^\r]*\).*/\1/Ip' "$work/head")"
        same "digest told of $name" "$digest" "$(sed -n 's/^docker-content-digest: \([^\r]*\).*/\1/Ip' "$work/head")"
    done
done <"$work/images"

begin "podman pulls by the configuration of a mirror"
cat >"$work/.config/containers/registries.conf" <<CONF
[[registry]]
prefix = "registry.example"
location = "registry.example"

[[registry.mirror]]
location = "$server"
insecure = true
CONF
while read -r name tag digest kind; do
    podman_pull "$name:$tag"
    podman_of image inspect --format '{{join .RepoDigests "\n"}}' "registry.example/$name:$tag" >"$work/digests"
    grep -q "$digest" "$work/digests" || fail "$name:$tag has another digest: $(<"$work/digests")"
done < <(awk '$4 == "image" || $1 ~ /^attested/' "$work/images")
podman_of rmi -f -a >/dev/null 2>&1 || :

begin "containerd fetches by hosts.toml"
containerd_up
while read -r name tag digest kind; do
    containerd_fetch "$name:$tag"
    ctr_of content get "$digest" | sha256sum | grep -q "${digest#sha256:}" || fail "$name:$tag has other bytes"
done <"$work/images"

begin "who refers to an image is told"
subject=$(awk '$1 == "signed/app" && $2 == "v1" { print $3 }' "$work/images")
signature=$(awk '$1 == "signed/app" && $2 == "signature" { print $3 }' "$work/images")
same "referrers" "$signature" "$(curl -sf "http://$server/v2/signed/app/referrers/$subject" | jq -r '.manifests[].digest')"
same "of another type" "" \
    "$(curl -sf "http://$server/v2/signed/app/referrers/$subject?artifactType=application/none" | jq -r '.manifests[].digest')"
finish
