#!/usr/bin/env bash
# What a volume holds is served as it lies: to the clients of a registry, of a trustless gateway, and to other mounts.
source "$(dirname "$0")/lib.sh"

images=12
megabytes=64
[[ -z $quick ]] || images=4 megabytes=8

# serve_up NAME OPTION...: sets ${NAME}_url and ${NAME}_pid.
serve_up() {
    local name=$1 port
    shift
    port=$(free_port)
    # Of an earlier one of the name.
    rm -f "$work/$name.log"
    setsid "$registryfs" serve --listen "127.0.0.1:$port" "$@" >"$work/$name.log" 2>&1 </dev/null &
    printf -v "${name}_pid" %s $!
    background+=("$!")
    printf -v "${name}_url" %s "http://127.0.0.1:$port"
    wait_for 30 grep -q "serving at" "$work/$name.log" || fail "no server: $(tail -n 3 "$work/$name.log")"
}
status_of_url() { curl -s -o /dev/null -w '%{http_code}' "$@"; }
host_of() { echo "${1#http://}"; }
# pulled_as FROM DIGEST: an image by its reference, whose manifest has the digest.
pulled_as() {
    rm -rf "$work/pulled"
    within 120 skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$1" \
        "dir:$work/pulled" || fail "$1 does not pull"
    same "digest of $1" "$2" "sha256:$(sha256sum "$work/pulled/manifest.json" | cut -d' ' -f1)"
}

volume_up
registry_up
declare -A digests
for number in $(seq "$images"); do
    digests[$number]=$(make_image "$work/image-$number" --layers $((number % 5 + 1)) \
        --bytes $((number == 1 ? megabytes * 1000000 : 100000)) --seed "$number")
    push "$work/image-$number" "team/app-$((number % 3)):v$number"
done

begin "a server runs as another user than root, and has no way into the state directory"
serve_up server --state-dir "$state" --deserialized
same "user" nobody "$(stat -c %U "/proc/$server_pid")"
same "capabilities" 0000000000000000 "$(sed -n 's/^CapEff:\t//p' "/proc/$server_pid/status")"
same "no new privileges" 1 "$(sed -n 's/^NoNewPrivs:\t//p' "/proc/$server_pid/status")"
at=$(host_of "$server_url")

begin "every image pulls from it with the digest that was pushed"
for number in $(seq "$images"); do
    pulled_as "$at/team/app-$((number % 3)):v$number" "${digests[$number]}"
done

begin "it lists what the stock registry lists"
same "catalog" "$(curl -sf "http://127.0.0.1:$port/v2/_catalog" | jq -S .)" \
    "$(curl -sf "$server_url/v2/_catalog" | jq -S .)"
for number in 0 1 2; do
    same "tags" "$(curl -sf "http://127.0.0.1:$port/v2/team/app-$number/tags/list" | jq -S '.tags |= sort')" \
        "$(curl -sf "$server_url/v2/team/app-$number/tags/list" | jq -S .)"
done

begin "a push is served at the next request"
make_image "$work/late" --layers 2 --bytes 3000000 --seed 99 >"$work/late.digest"
push "$work/late" team/late:now
pulled_as "$at/team/late:now" "$(<"$work/late.digest")"

begin "writes are refused, and unknown names are not found"
same "POST" 405 "$(status_of_url -X POST "$server_url/v2/team/app-0/blobs/uploads/")"
same "DELETE" 405 "$(status_of_url -X DELETE "$server_url/v2/team/app-0/manifests/v3")"
same "repository" 404 "$(status_of_url "$server_url/v2/team/none/manifests/v1")"
same "code" MANIFEST_UNKNOWN "$(curl -s "$server_url/v2/team/app-0/manifests/none" | jq -r '.errors[0].code')"

begin "skopeo pulls by a mirror's configuration"
mkdir -p "$work/.config/containers"
cat >"$work/.config/containers/registries.conf" <<CONF
[[registry]]
prefix = "registry.example"
location = "registry.example"
[[registry.mirror]]
location = "$at"
insecure = true
CONF
within 120 skopeo --insecure-policy copy -q docker://registry.example/team/app-1:v1 "dir:$work/mirrored" || fail "no pull by the mirror"

begin "blocks and archives are those of their CIDs, and other CIDs are not found"
root=$("$registryfs" cid "$mnt")
curl -sf "$server_url/ipfs/$root?format=raw" >"$work/root.block"
"$registryfs" block "$root" | cmp - "$work/root.block" || fail "another root block"
blob=$(find "$mnt/docker/registry/v2/blobs" -name data -size +1000k | head -n 1)
blob_cid=$("$registryfs" cid "$blob")
curl -sf "$server_url/ipfs/$blob_cid?format=car" >"$work/blob.car"
"$registryfs" export-car "$blob_cid" -o "$work/own.car"
same "blocks of the archive" "$(sha256sum <"$work/own.car")" "$(sha256sum <"$work/blob.car")"
other=bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq
same "unknown block" 404 "$(status_of_url "$server_url/ipfs/$other?format=raw")"
same "only-if-cached" 412 \
    "$(status_of_url -H 'Cache-Control: only-if-cached' "$server_url/ipfs/$other?format=raw")"

begin "files come by their paths, whole and in parts"
path=${blob#"$mnt"/}
curl -sf "$server_url/ipfs/$root/$path" | cmp - "$blob" || fail "another file"
curl -sf -r 1000-70999 "$server_url/ipfs/$blob_cid" |
    cmp - <(tail -c +1001 "$blob" | head -c 70000) || fail "another range"
same "beyond the end" 416 "$(status_of_url -r 99999999999- "$server_url/ipfs/$blob_cid")"
[[ $(curl -sf "$server_url/ipfs/$root/docker/") == *registry* ]] || fail "no listing"

begin "nothing but the tree is served, whatever the path is"
for target in /ipfs/$root/../../../etc/passwd /ipfs/$root/..%2f..%2fetc%2fpasswd /v2/../../etc/passwd \
    /v2/..%2f..%2f/manifests/x //etc/passwd /ipfs/%00 /%2e%2e/etc/passwd; do
    code=$(status_of_url --path-as-is "$server_url$target")
    [[ $code == 4?? ]] || fail "$target: $code"
done
uploads=$mnt/docker/registry/v2/repositories/team/app-0/_uploads
mkdir -p "$uploads/under-way"
echo secret >"$uploads/under-way/data"
secret=$("$registryfs" cid "$uploads/under-way/data")
same "an upload by its path" 404 "$(status_of_url \
    "$server_url/ipfs/$("$registryfs" cid "$mnt")/docker/registry/v2/repositories/team/app-0/_uploads/under-way/data")"
same "an upload by its CID" 404 "$(status_of_url "$server_url/ipfs/$secret?format=raw")"
rm -r "$uploads"

begin "a domain is a site of its own by its DNSLink, also by a unix socket that others may use"
mkdir "$mnt/site"
echo page >"$mnt/site/index.html"
echo "/old /index.html 302" >"$mnt/site/_redirects"
dns_port=$(free_port)
dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts \
    --bind-interfaces --listen-address=127.0.0.1 --port="$dns_port" --local=/test/ \
    --txt-record="_dnslink.site.test,dnslink=/ipfs/$("$registryfs" cid "$mnt/site")" 2>"$work/dns.log" &
background+=($!)
serve_up site --state-dir "$state" --host-domain site.test --dns "127.0.0.1:$dns_port" \
    --listen "unix:$work/site.sock" --socket-mode 0606 --socket-group nogroup
site_answers() { [[ $(curl -s -H "Host: site.test" "$site_url/") == page ]]; }
wait_for 20 site_answers || fail "no page: $(tail -n 2 "$work/site.log" "$work/dns.log")"
same "who may use the socket" "606 nogroup" "$(stat -c '%a %G' "$work/site.sock")"
same "by the socket" page "$(curl -sf --unix-socket "$work/site.sock" http://site.test/index.html)"
same "a rule of the site" "302 $site_url/index.html" \
    "$(curl -s -o /dev/null -w '%{http_code} %{redirect_url}' -H 'Host: site.test' "$site_url/old")"
tree=$("$registryfs" cid "$mnt")
same "what is no part of it" 404 "$(status_of_url -H 'Host: site.test' "$site_url/ipfs/$tree?format=raw")"
same "another host" 200 "$(status_of_url "$site_url/ipfs/$tree?format=raw")"
kill "$site_pid"
rm -r "$mnt/site"

begin "who is being served a file keeps its bytes while somebody writes to it"
dd if=/dev/urandom of="$mnt/large" bs=1M count=32 status=none
sum=$(sha256sum <"$mnt/large")
large=$("$registryfs" cid "$mnt/large")
curl -sf --limit-rate 8M "$server_url/ipfs/$large" >"$work/slow" &
reader=$!
sleep 0.5
dd if=/dev/zero of="$mnt/large" bs=1M count=32 conv=notrunc status=none
sync "$mnt/large"
wait "$reader" || fail "the download failed"
same "what was served" "$sum" "$(sha256sum <"$work/slow")"

begin "the server lives through the daemon's death, answers 503 meanwhile, and comes back"
registry_down
daemon_kill
same "without a daemon" 503 "$(status_of_url "$server_url/v2/team/app-0/manifests/v3")"
volume_up
is_back() { [[ $(status_of_url "$server_url/v2/team/app-0/manifests/v3") == 200 ]]; }
wait_for 10 is_back || fail "it does not come back"
pulled_as "$at/team/app-0:v3" "${digests[3]}"

begin "kill -9 of the server under load does not touch the mount"
for number in 1 2 3 4; do
    curl -s --limit-rate 20M "$server_url/ipfs/$blob_cid" >/dev/null &
done
kill -9 "$server_pid"
(within 20 cat "$blob" | sha256sum) >/dev/null || fail "the mount does not answer"
echo more >"$mnt/more" || fail "the mount takes no write"
serve_up server --state-dir "$state" --any-block
at=$(host_of "$server_url")
pulled_as "$at/team/app-1:v1" "${digests[1]}"

begin "mount --from serves a second machine what this one has, by its gateway alone"
root=$("$registryfs" cid "$mnt")
mkdir "$work/second"
"$registryfs" mount --state-dir "$work/state-second" --from "$root" --gateway "$server_url" "$work/second"
cmp "$blob" "$work/second/$path" || fail "other bytes by the gateway"
"$registryfs" unmount "$work/second"

begin "serve --from gives a tree that nobody mounted"
serve_up far --from "$root" --gateway "$server_url"
pulled_as "$(host_of "$far_url")/team/app-1:v1" "${digests[1]}"
pulled_as "$(host_of "$server_url")/ipfs/$root/team/app-2:v2" "${digests[2]}"
same "a block that is not of the tree" 404 "$(status_of_url "$far_url/ipfs/$other?format=raw")"
kill "$far_pid"

begin "serve --from a path gives nothing that lies beside it"
more=$("$registryfs" cid "$mnt/more")
serve_up part --from "/ipfs/$root/docker" --gateway "$server_url"
part_root=$("$registryfs" cid "$mnt/docker")
same "the path's own root" 200 "$(status_of_url "$part_url/ipfs/$part_root?format=raw")"
same "what is above it" 404 "$(status_of_url "$part_url/ipfs/$root?format=raw")"
same "what is beside it" 404 "$(status_of_url "$part_url/ipfs/$more?format=raw")"
kill "$part_pid"

begin "routing names this server for what it has"
serve_up routed --state-dir "$state" --external-url http://192.0.2.7:8080
curl -sf "$routed_url/routing/v1/providers/$blob_cid" >"$work/providers"
same "address" /ip4/192.0.2.7/tcp/8080/http "$(jq -r '.Providers[0].Addrs[0]' "$work/providers")"
kill "$routed_pid"

begin "a published name is served with its record"
"$registryfs" key generate self --state-dir "$state" >/dev/null
"$registryfs" publish --offline "$mnt" --json >"$work/published"
name=$(jq -r .name "$work/published")
curl -sf "$server_url/ipns/$name?format=ipns-record" >"$work/record"
"$registryfs" resolve --record "$work/record" "$name" --json >"$work/resolved" || fail "no record of $name"
same "where it leads" "/ipfs/$("$registryfs" cid "$mnt")" "$(jq -r .path "$work/resolved")"

begin "a registry on another machine has a push within some moments, by following the name over HTTP alone"
# Two machines are two network namespaces; the second reaches nothing but this server.
ip link add first type veth peer name second
unshare --net sleep infinity &
far_pid=$!
background+=("$far_pid")
is_apart() { [[ $(readlink "/proc/$far_pid/ns/net") != $(readlink /proc/self/ns/net) ]]; }
wait_for 10 is_apart || fail "no second network"
ip link set second netns "$far_pid"
ip address add 192.0.2.1/30 dev first
ip link set first up
there() { nsenter --net --target "$far_pid" -- "$@"; }
there ip address add 192.0.2.2/30 dev second
there ip link set second up
there ip link set lo up
setsid "$registryfs" serve --listen 192.0.2.1:8080 --state-dir "$state" >"$work/wide.log" 2>&1 </dev/null &
background+=("$!")
setsid "$registryfs" publish --offline --watch --interval 0.2 --ttl 0s "$mnt" >/dev/null 2>&1 </dev/null &
background+=("$!")
wait_for 30 grep -q "serving at" "$work/wide.log" || fail "no server: $(<"$work/wide.log")"
mkdir "$work/follower"
there "$registryfs" mount --state-dir "$work/state-follower" --from "/ipns/$name" --follow \
    --gateway http://192.0.2.1:8080 "$work/follower"
# Not by the function: what ends is to be the registry itself, and no shell above it.
REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$work/follower REGISTRY_HTTP_ADDR=127.0.0.1:5000 \
    nsenter --net --target "$far_pid" -- docker-registry serve "$top/Mount/registry.yml" >"$work/far.log" 2>&1 </dev/null &
far_registry=$!
background+=("$far_registry")
registry_up
far_answers() {
    there curl -sf -o /dev/null -H "Accept: application/vnd.oci.image.manifest.v1+json" \
        "http://127.0.0.1:5000/v2/$1"
}
wait_for 20 far_answers team/app-1/manifests/v1 || fail "the second registry has nothing: $(tail -n 1 "$work/far.log")"
make_image "$work/news" --layers 2 --bytes 2000000 --seed 77 >"$work/news.digest"
push "$work/news" team/news:now
start=$(date +%s%3N)
wait_for 20 far_answers team/news/manifests/now || fail "the push does not come"
say "a push was there after $(($(date +%s%3N) - start)) ms"
there skopeo --insecure-policy copy -q --src-tls-verify=false docker://127.0.0.1:5000/team/news:now "dir:$work/news-far"
same "digest" "$(<"$work/news.digest")" "sha256:$(sha256sum <"$work/news-far/manifest.json" | cut -d' ' -f1)"
registry_down
kill "$far_registry"
wait "$far_registry" || :
wait_for 10 "$registryfs" unmount "$work/follower" || fail "the follower does not unmount"

begin "tokens and networks keep others out"
echo "a-long-token-for-this-test" >"$work/tokens"
chmod 644 "$work/tokens"
serve_up guarded --state-dir "$state" --token-file "$work/tokens"
same "without a token" 401 "$(status_of_url "$guarded_url/v2/")"
same "with it" 200 "$(status_of_url -H 'Authorization: Bearer a-long-token-for-this-test' "$guarded_url/v2/")"
same "with it as a password" 200 "$(status_of_url -u any:a-long-token-for-this-test "$guarded_url/v2/")"
same "code" UNAUTHORIZED "$(curl -s "$guarded_url/v2/" | jq -r '.errors[0].code')"
within 60 skopeo inspect --raw --tls-verify=false --creds any:a-long-token-for-this-test \
    "docker://$(host_of "$guarded_url")/team/app-1:v1" >/dev/null || fail "skopeo does not get in"
curl -sI -u any:a-long-token-for-this-test "$guarded_url/ipfs/$root?format=raw" |
    grep -qi '^cache-control: private' || fail "shared caches may keep it"
kill "$guarded_pid"
serve_up fenced --state-dir "$state" --allow 192.0.2.0/24
same "from elsewhere" 403 "$(status_of_url "$fenced_url/v2/")"
kill "$fenced_pid"

begin "mount --serve keeps a server beside the mount, and ends it"
volume_down
beside=$(free_port)
python3 - "$work/notify" >"$work/notified" <<'END' &
import socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(sys.argv[1])
while True:
    print(manager.recv(4096).decode().strip(), flush=True)
END
background+=("$!")
wait_for 10 test -S "$work/notify"
export NOTIFY_SOCKET=$work/notify
# As libcurl's connections are: not closed by exec. In the background a daemon keeps nothing that it was started with.
exec 7>"$work/held"
setsid "$registryfs" mount --foreground --state-dir "$state" --serve "127.0.0.1:$beside" "$mnt" \
    >"$work/foreground.log" 2>&1 </dev/null &
background+=("$!")
exec 7>&-
wait_for 30 is_mounted "$mnt" || fail "no mount: $(tail -n 2 "$work/foreground.log")"
unset NOTIFY_SOCKET
answers() { [[ $(status_of_url "http://127.0.0.1:$beside/v2/") == 200 ]]; }
wait_for 20 answers || fail "nobody serves beside the mount"
pulled_as "127.0.0.1:$beside/team/app-1:v1" "${digests[1]}"
child=$(pgrep -f -- "serve --supervised-by [0-9]+ --state-dir $state") || fail "no process serves"
kill -9 "$child"
wait_for 20 answers || fail "it was not started again"
child=$(pgrep -f -- "serve --supervised-by [0-9]+ --state-dir $state")
same "what the service manager was told of it" READY=1 "$(cat "$work/notified")"
[[ $(ls -l "/proc/$(daemon_pid)/fd") == *"$work/held"* ]] || fail "the daemon has nothing for the server to take"
[[ $(ls -l "/proc/$child/fd") != *"$work/held"* ]] || fail "the server has what the daemon has open"
volume_down
wait_for 10 process_gone "$child" || fail "the server outlives the mount"

begin "check of the state directory is clean"
volume_check
finish
