#!/usr/bin/env bash
# Repositories of a domain between two machines (network namespaces) that have a Kubo node each: the first one publishes them with
# `publish --domain`; the second has never heard of it, looks the domain up, has its node connect to the one that DNS names, and gets
# the blocks from node to node. Needs a real node.
# Addresses and ports are fixed: the network has to be its own, whatever node others are tested with.
unset REGISTRYFS_TEST_KUBO
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"

if ! command -v ipfs >/dev/null; then
    echo "ok skipped: no real Kubo here (no ipfs on PATH)"
    exit 0
fi

source "$here/machines-lib.sh"

# kubo_up NAME ADDRESS COMMAND...: a node that others reach at this address, run by COMMAND; its pid in kubo_pid.
kubo_up() {
    local name=$1 address=$2
    shift 2
    export IPFS_PATH=$work/kubo-$name IPFS_TELEMETRY=off
    if [[ ! -d $IPFS_PATH ]]; then
        make_repository 127.0.0.1:5001 8080
        ipfs config --json Addresses.Swarm "[\"/ip4/$address/tcp/4001\"]"
        ipfs config Routing.Type none
    fi
    setsid "$@" ipfs daemon --migrate=false >"$work/kubo-$name.log" 2>&1 </dev/null &
    kubo_pid=$!
    background+=("$kubo_pid")
    wait_for 30 grep -q "Daemon is ready" "$work/kubo-$name.log" || fail "no node: $(tail -n 3 "$work/kubo-$name.log")"
}
kubo_up here "$here_address" env
here_kubo=$kubo_pid
kubo_up there "$there_address" nsenter --net --target "$there_pid" --
far_pins() { IPFS_PATH=$work/kubo-there there ipfs pin ls --type=recursive -q | sort; }
pins_before=$(far_pins)

# --- the first machine

rpc_address=127.0.0.1:5001
node_mount
registry_up
v1=$(make_image "$work/v1" --layers 3 --bytes 3000000 --seed 1)
v2=$(make_image "$work/v2" --layers 2 --bytes 2000000 --seed 2)
secret=$(make_image "$work/secret" --layers 1 --bytes 100000 --seed 3)
push "$work/v1" a.example/app:v1
push "$work/secret" private/app:v1

# tell_names: publishes the repositories of the domain, and has DNS say what that printed.
dns_pid=""
dns_answers() { "$registryfs" resolve a.example --dns "$here_address" >/dev/null 2>&1; }
tell_names() {
    "$registryfs" publish --domain a.example "$mnt" >"$work/lines" 2>"$work/publish.error" ||
        fail "publish --domain: $(tail -n 1 "$work/publish.error")"
    publish
    # As a zone file has them; a name server of another kind is given the same texts.
    {
        printf 'no-resolv\nno-hosts\nlocal=/example/\nlocal-ttl=1\n'
        sed -n 's/^\([^ ]*\)\.[ \t].*TXT[ \t]*"\(.*\)"$/\1 \2/p' "$work/lines" | while read -r name text; do
            # A comma parts the texts of one record there.
            echo "txt-record=$name,\"${text//\\\"/\"}\""
        done
    } >"$work/dns.conf"
    grep -q 'dnslink=/ipfs/' "$work/dns.conf" || fail "no dnslink in what was printed: $(<"$work/lines")"
    grep -q "ipfsnode=.*$here_address" "$work/dns.conf" || fail "no node in what was printed: $(<"$work/lines")"
    if [[ -n $dns_pid ]]; then
        kill "$dns_pid"
        wait "$dns_pid" || :
    fi
    dnsmasq --keep-in-foreground --conf-file="$work/dns.conf" --pid-file= --user=root --bind-interfaces \
        --listen-address="$here_address" --port=53 2>"$work/dns.error" &
    dns_pid=$!
    background+=("$dns_pid")
    wait_for 10 dns_answers || fail "the name server does not answer: $(tail -n 2 "$work/dns.error")"
}
tell_names

# --- the second machine

there "$registryfs" mount --state-dir "$far_state" --pull-through '*.example' --kubo 127.0.0.1:5001 \
    --dns "$here_address" --pull-through-ttl 2s..4s --pull-through-timeout 20 "$far"
far_registry_up

begin "an image of a domain comes from node to node, by what DNS says of both"
same "peers before" 0 "$(IPFS_PATH=$work/kubo-there there ipfs swarm peers | wc -l)"
# The node asks for the tree while it is still connecting, and what it asked before may end at its deadline.
has_v1() { [[ $(far_get a.example/app/manifests/v1) == 200 ]]; }
wait_for 30 has_v1 || fail "it does not come: $(tail -n 2 "$far_state/registryfs.log" | tr '\n' ' ')"
far_pull a.example/app:v1 "$v1"
same "peers then" 1 "$(IPFS_PATH=$work/kubo-there there ipfs swarm peers | grep -c "$here_address")"

begin "what was not published is not to be had"
same "another repository" 404 "$(far_get private/app/manifests/v1)"
same "its manifest by digest" 404 "$(far_get "a.example/app/manifests/$secret")"

begin "a new tag is there when the answer of before is over"
push "$work/v2" a.example/app:v2
tell_names
has_v2() { [[ $(far_get a.example/app/manifests/v2) == 200 ]]; }
wait_for 20 has_v2 || fail "the new tag does not come: $(tail -n 3 "$far_state/registryfs.log" | tr '\n' ' ')"

begin "the second machine's node is a source alone, and fetches nothing that nobody asked for"
! within 60 "$registryfs" sync --timeout 20 "$far" >"$work/sync" 2>&1 || fail "it says that it published: $(<"$work/sync")"
same "what it holds" "$pins_before" "$(far_pins)"

begin "grafts pin keeps the whole domain, and what was pulled stays when its node is gone"
"$registryfs" grafts pin a.example --at "$far" 2>"$work/pin" || fail "no pin: $(tail -n 1 "$work/pin")"
kill -9 "$here_kubo"
wait_for 10 process_gone "$here_kubo" || fail "the node outlives kill -9"
far_pull a.example/app:v1 "$v1"
far_pull a.example/app:v2 "$v2"
code=$(far_get a.example/app/manifests/v3)
[[ $code == 404 || $code == 5?? ]] || fail "a tag that is not here: status $code"
finish
