#!/usr/bin/env bash
# A Kubo node finds what only a volume has at `registryfs serve`, by one line of its configuration, and fetches it
# over HTTP. Needs a real node.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"

if ! command -v ipfs >/dev/null; then
    echo "ok skipped: no real Kubo here (no ipfs on PATH)"
    exit 0
fi

# serve_up SCHEME: sets $server and $server_pid.
serve_up() {
    local options=()
    server=$1://127.0.0.1:$(free_port)
    [[ $1 == http ]] || options=(--tls-cert "$work/cert.pem" --tls-key "$work/key.pem")
    setsid "$registryfs" serve --listen "${server##*/}" --state-dir "$state" --external-url "$server" \
        --access-log "$work/access-$1.log" "${options[@]}" >"$work/serve-$1.log" 2>&1 </dev/null &
    server_pid=$!
    background+=("$server_pid")
    wait_for 30 grep -q "serving at" "$work/serve-$1.log" || fail "no server: $(tail -n 3 "$work/serve-$1.log")"
}
# kubo_up NAME LINE...: a node of its own with default routing and these settings; IPFS_PATH is its.
kubo_up() {
    local name=$1 settings=("${@:2}")
    export IPFS_PATH=$work/node-$1 IPFS_TELEMETRY=off
    rpc_address=127.0.0.1:$(free_port)
    make_repository "$rpc_address" "$(free_port)"
    while ((${#settings[@]})); do
        ipfs config --json "${settings[0]}" "${settings[1]}"
        settings=("${settings[@]:2}")
    done
    setsid ipfs daemon --migrate=false >"$work/node-$name.log" 2>&1 </dev/null &
    node_pid=$!
    background+=("$node_pid")
    wait_for 30 grep -q "Daemon is ready" "$work/node-$name.log" ||
        fail "no node: $(tail -n 3 "$work/node-$name.log")"
    same "peers" 0 "$(ipfs swarm peers | wc -l)"
}
kubo() { within 60 ipfs "$@"; }
# fetches_all: the node gets the whole tree, and each of its files has the volume's bytes.
fetches_all() {
    local cid
    cid=$(root_cid "$mnt/tree")
    within 60 ipfs refs -r --unique "$cid" >"$work/refs" || fail "no refs of the tree"
    same "a pin" "pinned $cid recursively" "$(kubo pin add "$cid")"
    kubo get -o "$work/got" "$cid" >/dev/null 2>&1 || fail "the tree does not come"
    diff -r "$mnt/tree" "$work/got" || fail "the node has another tree"
    rm -r "$work/got"
    same "blocks that are missing" 0 "$(ipfs --offline refs -r --unique "$cid" |
        while read -r block; do ipfs --offline block stat "$block" >/dev/null || echo "$block"; done | wc -l)"
}

volume_up
mkdir -p "$mnt/tree/deep/below" "$mnt/tree/wide"
head -c 5000000 /dev/urandom >"$mnt/tree/deep/below/large"
for number in {1..40}; do echo "$number" >"$mnt/tree/wide/$number"; done
touch "$mnt/tree/empty"
ln -s deep/below "$mnt/tree/link"

begin "by one line of configuration a node finds it, and has it over HTTP"
serve_up http
kubo_up line Routing.DelegatedRouters "[\"$server\"]"
same "a file" "$(sha256sum <"$mnt/tree/deep/below/large")" \
    "$(kubo cat "$(root_cid "$mnt/tree/deep/below/large")" | sha256sum)"
fetches_all
grep -q 'GET /ipfs/.*format=raw' "$work/access-http.log" || fail "no block was asked of the server"
same "peers that bitswap spoke to" 0 "$(ipfs swarm peers | wc -l)"

begin "what is written later is found as well"
head -c 300000 /dev/urandom >"$mnt/tree/later"
same "bytes" "$(sha256sum <"$mnt/tree/later")" "$(kubo cat "$(root_cid "$mnt/tree/later")" | sha256sum)"

begin "it learns names from the server"
name=$("$registryfs" key generate)
"$registryfs" publish --offline "$mnt/tree" >/dev/null
same "the name" "/ipfs/$(root_cid "$mnt/tree")" "$(kubo name resolve "$name")"
same "a file by the name" "$(sha256sum <"$mnt/tree/later")" "$(kubo cat "/ipns/$name/later" | sha256sum)"

begin "nobody is told of what the volume does not have"
nothing=bafkreif2pall7dybz7vecqka3zo24irdwabwdi4wc55jznaq75q7eaavvu
same "providers" '{"Providers":[]}' "$(curl -sf "$server/routing/v1/providers/$nothing")"
same "providers that the node finds" "" "$(kubo routing findprovs "$nothing")"
kill "$node_pid"
wait_for 30 process_gone "$node_pid" || fail "the node does not end"

begin "a node that asks nobody else does the same"
kubo_up only Routing.Type '"delegated"' Routing.DelegatedRouters "[\"$server\"]" Provide.Enabled false
fetches_all
kill "$node_pid"
wait_for 30 process_gone "$node_pid" || fail "the node does not end"

begin "and over https"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
chmod 644 "$work/key.pem" # the server is nobody
serve_up https
export SSL_CERT_FILE=$work/cert.pem
kubo_up secure Routing.DelegatedRouters "[\"$server\"]"
fetches_all
grep -q 'GET /ipfs/.*HTTP/2' "$work/access-https.log" || fail "no block came by HTTP/2"
volume_down
volume_check
finish
