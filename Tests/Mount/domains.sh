#!/usr/bin/env bash
# Repositories of other people's domains: two machines (network namespaces), a name server, and stock registries on both. The
# second one has never heard of the first: it looks its domain up, and takes content from the gateway that DNS names.
# Addresses and ports are fixed: the network has to be its own, whatever node others are tested with.
unset REGISTRYFS_TEST_KUBO
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"

source "$here/machines-lib.sh"

https_port=8443
silent_port=8444
peer=12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB

# --- the first machine: a volume, its registry, a server with TLS, and a name server


openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gateway -addext "subjectAltName=IP:$here_address" \
    -keyout "$work/tls.key" -out "$work/tls.pem" 2>"$work/openssl.log" || fail "$(tail -n 1 "$work/openssl.log")"
chmod 644 "$work/tls.key" "$work/tls.pem"

gateway=https://$here_address:$https_port
serve_up() { # serve_up: sets server_pid
    : >"$work/serve.log"
    setsid "$registryfs" serve --listen "$here_address:$https_port" --state-dir "$state" \
        --tls-cert "$work/tls.pem" --tls-key "$work/tls.key" >"$work/serve.log" 2>&1 </dev/null &
    server_pid=$!
    background+=("$server_pid")
    wait_for 30 grep -q "serving at" "$work/serve.log" || fail "no server: $(tail -n 3 "$work/serve.log")"
}

# names: the records of now, as dnsmasq takes them; it reads them when it starts.
declare -A leads=()
dns_pid=""
dns_up() {
    local domain
    {
        echo "no-resolv"
        echo "no-hosts"
        echo "local=/example/"
        echo "local-ttl=1"
        for domain in "${!leads[@]}"; do
            echo "txt-record=_dnslink.$domain,dnslink=${leads[$domain]}"
        done
        # The gateway of one stands beside its link, that of the others at the domain itself.
        echo "txt-record=_dnslink.a.example,gateway=$gateway"
        echo "txt-record=_dnslink.a.example,ipfsnode=/ip4/$here_address/tcp/4001/p2p/$peer"
        echo "txt-record=a.example,ipfsnode=/ip4/127.0.0.1/tcp/4002/p2p/$peer"
        for domain in wrong short long plain many key; do
            echo "txt-record=$domain.example,gateway=$gateway"
        done
        echo "txt-record=silent.example,gateway=https://$here_address:$silent_port"
        echo "txt-record=inside.example,gateway=https://127.0.0.1:$https_port"
        echo "txt-record=open.example,gateway=http://$here_address:$https_port"
        for number in $(seq 200); do
            echo "txt-record=_dnslink.many.example,$number$(printf 'a%.0s' {1..240})"
        done
    } >"$work/dns.conf"
    if [[ -n $dns_pid ]]; then
        kill "$dns_pid"
        wait "$dns_pid" || :
    fi
    dnsmasq --keep-in-foreground --conf-file="$work/dns.conf" --pid-file= --user=root --bind-interfaces \
        --listen-address="$here_address" --port=53 --log-queries --log-facility="$work/dns.log" 2>"$work/dns.error" &
    dns_pid=$!
    background+=("$dns_pid")
    wait_for 10 dns_answers || fail "the name server does not answer: $(tail -n 2 "$work/dns.error")"
}
dns_answers() { "$registryfs" resolve a.example --dns "$here_address" >/dev/null 2>&1; }

volume_up
registry_up
here_port=$port
v1=$(make_image "$work/v1" --layers 3 --bytes 3000000 --seed 1)
v2=$(make_image "$work/v2" --layers 2 --bytes 2000000 --seed 2)
v3=$(make_image "$work/v3" --layers 2 --bytes 2000000 --seed 3)
other=$(make_image "$work/other" --layers 2 --bytes 1000000 --seed 4)
push "$work/v1" a.example/app:v1
push "$work/v3" a.example/late:v3
serve_up
publish_a() { leads[a.example]=/ipfs/$("$registryfs" cid "$mnt"); }
publish_a
dns_up

# --- the second machine: a volume that looks up what ends in .example, and its registry

far_up() { # far_up OPTION...
    there env CURL_CA_BUNDLE="$work/tls.pem" "$registryfs" mount --state-dir "$far_state" --pull-through '*.example' \
        --dns "$here_address" --pull-through-ttl 2s..4s --pull-through-timeout 8 "$@" "$far"
    is_mounted "$far" || fail "mount returned, and $far is not mounted"
}
far_push() { # far_push LAYOUT NAME:TAG
    within 60 nsenter --net --target "$there_pid" -- skopeo --insecure-policy copy -q --preserve-digests \
        --dest-tls-verify=false "oci:$1" "docker://127.0.0.1:5000/$2" ||
        fail "$2 is not pushed: $(tail -n 1 "$work/far.log")"
}
graft_of() { "$registryfs" grafts --at "$far" --json | jq -r ".grafts[] | select(.name == \"$1\") | $2"; }
# does_not_have PATH: not found, or an error, and soon.
does_not_have() {
    local code
    code=$(far_get "$1")
    [[ $code == 404 || $code == 5?? ]] || fail "$1: status $code"
}

far_up
far_registry_up

begin "an image of a domain that nobody here has heard of pulls with the digest that was pushed"
found=$(within 60 nsenter --net --target "$there_pid" -- skopeo inspect --tls-verify=false \
    docker://127.0.0.1:5000/a.example/app:v1) || fail "no inspect: $(tail -n 2 "$far_state/registryfs.log" | tr '\n' ' ')"
same "digest" "$v1" "$(jq -r .Digest <<<"$found")"
far_pull a.example/app:v1 "$v1"

begin "podman pulls it as well"
printf '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/policy.json"
podman_there() {
    within 120 nsenter --net --target "$there_pid" -- podman --root "$work/podman" --runroot "$work/podman-run" \
        --storage-driver vfs "$@"
}
podman_there pull -q --tls-verify=false --signature-policy "$work/policy.json" 127.0.0.1:5000/a.example/app:v1 \
    >"$work/podman.log" 2>&1 || fail "podman: $(tail -n 1 "$work/podman.log")"
same "digest" "127.0.0.1:5000/a.example/app@$v1" \
    "$(podman_there image inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/a.example/app:v1)"
podman_there rmi -f -a >"$work/podman.log" 2>&1 || fail "podman rmi: $(tail -n 1 "$work/podman.log")"

begin "grafts, status and inspect tell where it came from"
same "layout" registry "$(graft_of a.example .layout)"
same "ahead" false "$(graft_of a.example .ahead)"
same "root" "${leads[a.example]#/ipfs/}" "$(graft_of a.example .root)"
"$registryfs" grafts list --at "$far" | grep -q "^a.example  *registry  */ipfs/" || fail "the list has no line of it"
same "patterns" '["*.example"]' "$("$registryfs" status --json "$far" | jq -c '.mounts[0].domains.patterns')"
same "grafts" 1 "$("$registryfs" status --json "$far" | jq '.mounts[0].domains.grafts')"
same "who has it" announced "$("$registryfs" status --json "$far" | jq -r '.mounts[0].sources[0].kind')"
link=$far/docker/registry/v2/repositories/a.example/app/_manifests/tags/v1/current/link
"$registryfs" inspect "$link" | grep -q "graft  *a.example" || fail "inspect does not tell: $("$registryfs" inspect "$link")"

begin "only what the patterns have is looked up"
: >"$work/dns.log"
for name in library/app app other.test/app 192.0.2.1/app 2130706433/app a.localhost/app; do
    same "$name" 404 "$(far_get "$name/manifests/v1")"
done
! grep -E "query\[[^]]*\] [^ ]*(library|app|other\.test|192|localhost|2130706433)[^ ]* from" "$work/dns.log" || fail "it was looked up"

begin "what a domain does not have is not found"
same "no such tag" 404 "$(far_get a.example/app/manifests/none)"
same "no such repository" 404 "$(far_get a.example/none/manifests/v1)"
same "no such domain" 404 "$(far_get none.example/app/manifests/v1)"
grep -q "query\[TXT\] _dnslink.none.example" "$work/dns.log" || fail "nobody looked"

begin "a new tag is there when the answer of before is over"
push "$work/v2" a.example/app:v2
publish_a
dns_up
has_v2() { [[ $(far_get a.example/app/manifests/v2) == 200 ]]; }
wait_for 10 has_v2 || fail "the new tag does not come: $(tail -n 3 "$far_state/registryfs.log" | tr '\n' ' ')"
far_pull a.example/app:v2 "$v2"
far_pull a.example/app:v1 "$v1"

begin "a domain that leads to a key needs its gateway alone, which has the record too"
keyed=$(make_image "$work/keyed" --layers 2 --bytes 1000000 --seed 6)
push "$work/keyed" key.example/app:v6
"$registryfs" key generate --state-dir "$state" >"$work/key"
"$registryfs" publish --offline --ttl 1s "$mnt" >"$work/published"
leads[key.example]=/ipns/$(<"$work/key")
publish_a
dns_up
far_pull key.example/app:v6 "$keyed"
same "where it leads" "${leads[a.example]#/ipfs/}" "$(graft_of key.example .root)"

begin "a push to the domain stays here, and shows as ahead of it"
far_push "$work/other" a.example/other:mine
far_pull a.example/other:mine "$other"
is_ahead() { [[ $(graft_of a.example .ahead) == true ]]; }
wait_for 10 is_ahead || fail "it does not show as ahead"
same "on the first machine" 404 \
    "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$here_port/v2/a.example/other/manifests/mine")"
far_push "$work/other" own/app:mine

begin "the catalogue and a garbage collection are of the second registry alone"
same "catalogue" 200 "$(far_get '_catalog?n=1000')"
jq -e '.repositories | index("own/app")' "$work/body" >"$work/ignored" || fail "its own repository is missing: $(<"$work/body")"
far_registry_down
within 60 nsenter --net --target "$there_pid" -- env REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$far" \
    docker-registry garbage-collect "$top/Mount/registry.yml" >"$work/collect.log" 2>&1 ||
    fail "garbage-collect: $(tail -n 1 "$work/collect.log")"
far_registry_up
far_pull own/app:mine "$other"
far_pull a.example/other:mine "$other"
far_pull a.example/app:v1 "$v1"
far_pull a.example/app:v2 "$v2"

begin "what is deleted here is deleted here alone, and stays so"
same "a tag of its own" 202 "$(far_get "own/app/manifests/$other" -X DELETE)"
same "then" 404 "$(far_get own/app/manifests/mine)"
same "one of the domain" 202 "$(far_get "a.example/app/manifests/$v2" -X DELETE)"
same "then" 404 "$(far_get a.example/app/manifests/v2)"
"$registryfs" grafts refresh a.example --at "$far" >"$work/refreshed" || fail "no refresh"
same "after a refresh" 404 "$(far_get a.example/app/manifests/v2)"
same "on the first machine" 200 "$(curl -s -o /dev/null -w '%{http_code}' \
    -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://127.0.0.1:$here_port/v2/a.example/app/manifests/v2")"
far_push "$work/other" own/app:mine
far_push "$work/v2" a.example/app:v2

begin "hostile domains: what does not have its digest is an error, and named"
# Trees of the kind that a domain can lead to, as plain files beside the real one.
hostile() { # hostile NAME [REPOSITORY]: a tree that has such a repository as NAME.example/app; sets tree
    tree=$mnt/hostile/$1
    mkdir -p "$tree/docker/registry/v2/repositories/$1.example"
    cp -r "$mnt/docker/registry/v2/repositories/${2:-b.example/app}" "$tree/docker/registry/v2/repositories/$1.example/app"
    cp -r "$mnt/docker/registry/v2/blobs" "$tree/docker/registry/v2/blobs"
}
bad=$(make_image "$work/bad" --layers 2 --bytes 6000000 --seed 5)
push "$work/bad" b.example/app:bad
layer=$(jq -r '.layers[0].digest' "$work/bad/blobs/sha256/${bad#sha256:}")
file=docker/registry/v2/blobs/sha256/${layer:7:2}/${layer#sha256:}/data
hostile wrong
printf x | dd of="$tree/$file" bs=1 seek=1000 conv=notrunc status=none
hostile short
truncate -s 1000 "$tree/$file"
hostile long
head -c 100000 /dev/zero >>"$tree/$file"
mkdir -p "$mnt/hostile/plain/docker/registry/v2"
echo "no directory" >"$mnt/hostile/plain/docker/registry/v2/repositories"
mkdir "$mnt/hostile/plain/docker/registry/v2/blobs"
# Nobody has the right bytes.
rm -r "$(dirname "$mnt/$file")" "$mnt/docker/registry/v2/repositories/b.example"
hostile many a.example/app
root=$("$registryfs" cid "$mnt")
for name in wrong short long plain many; do leads[$name.example]=/ipfs/$root/hostile/$name; done
# What these lead to nobody has.
for name in silent inside open; do
    leads[$name.example]=/ipfs/$(python3 -c 'import base64, os
print("b" + base64.b32encode(b"\x01\x70\x12\x20" + os.urandom(32)).decode().lower().rstrip("="))')
done
leads[loop.example]=/ipns/pool.example
leads[pool.example]=/ipns/loop.example
leads[nonsense.example]=/ipfs/nonsense
publish_a
dns_up
for name in wrong short long; do
    same "manifest of $name" 200 "$(far_get "$name.example/app/manifests/bad")"
    # The head may be on its way before the bytes are looked at.
    ! there curl -sf -o "$work/body" --max-time 60 "http://127.0.0.1:5000/v2/$name.example/app/blobs/$layer" ||
        fail "$name: the blob came"
    [[ $name != wrong ]] || grep -q "${layer#sha256:}" "$far_state/registryfs.log" || fail "the log does not name the blob"
    # What has its digest is given.
    same "config of $name" 200 "$(far_get "$name.example/app/blobs/$(
        jq -r .config.digest "$work/bad/blobs/sha256/${bad#sha256:}")")"
done

begin "hostile domains: loops, files in place of directories, and nonsense are not found, and soon"
for name in loop pool plain nonsense; do does_not_have "$name.example/app/manifests/v1"; done
same "a good domain after them" 200 "$(far_get a.example/app/manifests/v2)"

listener() { # listener FILE ADDRESS PORT: takes connections and says nothing; run by whoever has the address
    exec python3 -c 'import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
kept = []
print("listening", flush=True)
while True:
    kept.append(server.accept())
    print("connected", flush=True)' "$2" "$3" >"$work/$1" 2>&1
}
begin "hostile domains: a gateway at this machine's own address, or without TLS, is not asked"
export -f listener
export work
: >"$work/inside"
: >"$work/silent"
there bash -c 'listener inside 127.0.0.1 8443' &
background+=("$!")
wait_for 10 grep -q listening "$work/inside" || fail "$(<"$work/inside")"
for name in inside open; do does_not_have "$name.example/app/manifests/v1"; done
! grep -q connected "$work/inside" || fail "the machine's own address was connected to"
source_of() { "$registryfs" status --json "$far" | jq -r ".mounts[0].sources[] | select(.address == \"$1\") | .lastError"; }
[[ $(source_of "https://127.0.0.1:$https_port") == *"no public address"* ]] ||
    fail "status does not tell why: $(source_of "https://127.0.0.1:$https_port")"
same "a gateway without TLS" "" "$(source_of "http://$here_address:$https_port")"

begin "an answer of more than 48 KiB is read"
far_pull many.example/app:v1 "$v1"

begin "a gateway that never answers holds up nobody but its domain"
listener silent "$here_address" "$silent_port" &
background+=("$!")
wait_for 10 grep -q listening "$work/silent" || fail "$(<"$work/silent")"
(far_get silent.example/app/manifests/v3 >"$work/silent-status") &
waiting=$!
far_pull a.example/app:v1 "$v1"
far_pull own/app:mine "$other"
wait "$waiting" || fail "the look-up does not end"
grep -q connected "$work/silent" || fail "it was not asked"
[[ $(<"$work/silent-status") == 5?? ]] || fail "status $(<"$work/silent-status")"

begin "what is kept needs nobody, and what was pulled stays when the domain is away"
"$registryfs" grafts refresh a.example --at "$far" >"$work/refreshed"
same "after a refresh" "${leads[a.example]#/ipfs/}" "$(graft_of a.example .root)"
kill "$server_pid"
wait "$server_pid" || :
server_pid=""
far_pull a.example/app:v1 "$v1"
far_pull a.example/app:v2 "$v2"
does_not_have a.example/late/manifests/v3
does_not_have "a.example/app/blobs/sha256:$(printf '0%.0s' {1..64})"
far_push "$work/v3" own/late:v3
far_pull own/late:v3 "$v3"
far_registry_down
within 120 nsenter --net --target "$there_pid" -- env REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$far" \
    docker-registry garbage-collect "$top/Mount/registry.yml" >"$work/collect.log" 2>&1 ||
    fail "garbage-collect with the domain away: $(tail -n 1 "$work/collect.log")"
far_registry_up
same "catalogue with the domain away" 200 "$(far_get '_catalog?n=1000')"
far_pull a.example/app:v1 "$v1"
far_pull own/late:v3 "$v3"
kill "$dns_pid"
wait "$dns_pid" || :
dns_pid=""
does_not_have new.example/app/manifests/v1
far_pull a.example/app:v1 "$v1"
far_pull own/app:mine "$other"

begin "it comes back, and pin keeps all of it"
serve_up
dns_up
is_back() { [[ $(far_get a.example/late/manifests/v3) == 200 ]]; }
wait_for 20 is_back || fail "it does not come back: $(tail -n 3 "$far_state/registryfs.log" | tr '\n' ' ')"
"$registryfs" grafts pin a.example --at "$far" --json >"$work/pin" || fail "it is not kept"
(($(jq .files "$work/pin") > 0)) || fail "nothing was fetched: $(<"$work/pin")"
same "pinned" true "$(graft_of a.example .pinned)"

begin "a Kubo node is told of the nodes that a domain names, if they are at public addresses"
node_up
mkdir "$work/with-node"
CURL_CA_BUNDLE=$work/tls.pem "$registryfs" mount --state-dir "$work/state-node" --kubo "$rpc_address" \
    --pull-through a.example --pull-through-ttl 10m..1h --dns "$here_address" "$work/with-node"
same "by the gateway, beside the node" "app" "$(ls "$work/with-node/docker/registry/v2/repositories/a.example" | grep '^app$')"
is_told() { grep -q "domain names: .*$here_address/tcp/4001" "$work/state-node/registryfs.log"; }
wait_for 10 is_told || fail "the node was not told: $(tail -n 2 "$work/state-node/registryfs.log")"
! grep -q "127.0.0.1/tcp/4002" "$work/state-node/registryfs.log" || fail "it was told of an address that is not public"
"$registryfs" unmount "$work/with-node"

begin "after another mount the gateway of a domain is known before its next look"
CURL_CA_BUNDLE=$work/tls.pem "$registryfs" mount --state-dir "$work/state-node" --kubo "$rpc_address" \
    --pull-through a.example --pull-through-ttl 10m..1h --dns "$here_address" "$work/with-node"
layer=$(jq -r '.layers[0].digest' "$work/v1/blobs/sha256/${v1#sha256:}")
has_layer() {
    [[ sha256:$(sha256sum "$work/with-node/docker/registry/v2/blobs/sha256/${layer:7:2}/${layer#sha256:}/data" 2>/dev/null |
        cut -d' ' -f1) == "$layer" ]]
}
wait_for 10 has_layer || fail "it does not come: $(tail -n 2 "$work/state-node/registryfs.log")"
"$registryfs" unmount "$work/with-node"

begin "a name server that never answers ends in an error within the time, and own images do not notice"
far_registry_down
"$registryfs" unmount "$far"
python3 - "$here_address" 5399 >"$work/deaf" 2>&1 <<'PYTHON' &
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
while True: server.recv(4096)
PYTHON
background+=("$!")
wait_for 10 grep -q listening "$work/deaf" || fail "$(<"$work/deaf")"
far_up --dns "$here_address:5399" --pull-through-timeout 2
far_registry_up
does_not_have new.example/app/manifests/v1
far_pull own/app:mine "$other"
far_pull a.example/app:v2 "$v2"

begin "remove takes away what is the domain's alone"
"$registryfs" grafts remove many.example --at "$far" >"$work/removed"
same "what it says" many.example "$(<"$work/removed")"
same "what is left of it" "" "$(graft_of many.example .name)"
far_pull own/app:mine "$other"

begin "check of both state directories is clean"
far_registry_down
"$registryfs" unmount "$far"
"$registryfs" check --state-dir "$far_state" >"$work/check" 2>&1 || fail "$(tail -n 3 "$work/check" | tr '\n' ' ')"
registry_down
volume_down
volume_check
finish
