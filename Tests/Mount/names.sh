#!/usr/bin/env bash
# Names: keys, records that are published under them, domains that lead to them, and what a resolver makes of
# all that: from a Kubo node, a gateway, a file, and name servers.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"
in_both_nodes

resolve() { "$registryfs" resolve "$@"; }
last_of() { tail -n 1 <<<"$1"; }

node_options=()
node_up
node_mount
mkdir "$mnt/docker"
head -c 300000 /dev/urandom >"$mnt/docker/data"
publish
root=$(root_cid)
empty=bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354

begin "a key is made for its owner alone"
name=$("$registryfs" key generate)
[[ $name == k51* ]] || fail "the name is $name"
same "mode of keys" 700 "$(stat -c %a "$state/keys")"
same "mode of the key" 600 "$(stat -c %a "$state/keys/self.key")"
same "length of the key" 68 "$(stat -c %s "$state/keys/self.key")"
same "list" "self $name nothing published" "$("$registryfs" key list)"
! "$registryfs" key generate 2>/dev/null || fail "a second key of the name replaced the first"

begin "a key goes to another volume, and to openssl and back"
mkdir "$work/other" "$work/other-mnt"
with_ring_switch Y "$registryfs" mount --state-dir "$work/other" "$work/other-mnt"
"$registryfs" unmount "$work/other-mnt"
"$registryfs" key export -o "$work/key"
"$registryfs" key export --format pem -o "$work/key.pem"
same "mode of the export" 600 "$(stat -c %a "$work/key.pem")"
openssl pkey -in "$work/key.pem" -noout || fail "openssl does not read the key"
same "name of what was exported" "$name" "$("$registryfs" key import one "$work/key" --state-dir "$work/other")"
same "name of the PEM" "$name" "$("$registryfs" key import two "$work/key.pem" --state-dir "$work/other")"
openssl genpkey -algorithm ed25519 -out "$work/theirs.pem"
"$registryfs" key import three "$work/theirs.pem" --state-dir "$work/other" >/dev/null
same "keys" "one three two" \
    "$("$registryfs" key list --json --state-dir "$work/other" | jq -r '[.keys[].key] | join(" ")')"
! "$registryfs" key export -o "$work/key" 2>/dev/null || fail "an export replaced a file"

begin "a record is signed with the next sequence, and kept"
line=$("$registryfs" publish --offline --lifetime 1h --ttl 90s "$empty")
same "the line for DNS" "_dnslink.example.org. TXT \"dnslink=/ipns/$name\"" "$(last_of "$line")"
[[ $line == "/ipns/$name -> /ipfs/$empty, sequence 0, until "*", handed to nobody"* ]] || fail "it says $line"
record=$state/keys/self.ipns-record
cp "$record" "$work/first"
same "mode of the record" 600 "$(stat -c %a "$record")"
found=$(resolve "$name" --record "$record" --json)
same "value" "/ipfs/$empty" "$(jq -r .path <<<"$found")"
same "TTL" 90 "$(jq -r .ttlSeconds <<<"$found")"
same "the next sequence" 1 "$("$registryfs" publish --offline --json "$empty" | jq .sequence)"
same "a sequence from elsewhere" 40 \
    "$("$registryfs" publish --offline --sequence 40 --json "$empty" | jq .sequence)"
same "and the one behind it" 41 "$("$registryfs" publish --offline --json "$empty" | jq .sequence)"

begin "the mount's root is published at its own node"
report=$("$registryfs" publish --json "$mnt")
same "value" "/ipfs/$root" "$(jq -r .value <<<"$report")"
same "who has it" "http://$rpc_address" "$(jq -r .kubo <<<"$report")"
same "resolved by the node" "/ipfs/$root" "$(last_of "$(resolve "/ipns/$name" --kubo "$rpc_address")")"
same "resolved below a path" "/ipfs/$root/docker/data" \
    "$(last_of "$(resolve "ipns://$name/docker/data" --kubo "$rpc_address")")"
"$registryfs" publish --kubo "$rpc_address" "$mnt/docker" >/dev/null
same "a directory" "/ipfs/$(root_cid "$mnt/docker")" \
    "$(last_of "$(resolve "$name" --kubo "$rpc_address")")"

begin "the node's sequence is not gone below"
# The same key elsewhere, where nobody knows what was signed with it.
sequence=$(jq .sequence <<<"$("$registryfs" key list --json | jq '.keys[0]')")
same "sequence" $((sequence + 1)) \
    "$("$registryfs" publish --key one --state-dir "$work/other" --kubo "$rpc_address" --json "$root" | jq .sequence)"

begin "no record goes back"
resolve "$name" --kubo "$rpc_address" --state-dir "$work/other" >/dev/null
same "what is remembered" 600 "$(stat -c %a "$work/other/names/$name.ipns-record")"
! resolve "$name" --record "$work/first" --state-dir "$work/other" 2>"$work/error" ||
    fail "an older record was taken"
grep -q "goes back" "$work/error" || fail "it says $(<"$work/error")"
same "without a memory" "/ipfs/$empty" "$(last_of "$(resolve "$name" --record "$work/first")")"
printf x | dd of="$work/first" bs=1 seek=40 conv=notrunc status=none
! resolve "$name" --record "$work/first" 2>"$work/error" || fail "a changed record was taken"
grep -qE "not signed|malformed|another" "$work/error" || fail "it says $(<"$work/error")"

begin "a gateway gives records"
port=$(free_port)
cat >"$work/gateway.py" <<'PYTHON'
import http.server, sys
record = open(sys.argv[2], "rb").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/ipns/%s?format=ipns-record" % sys.argv[3]
        self.send_response(200 if good else 404)
        self.send_header("Content-Type", "application/vnd.ipfs.ipns-record")
        self.send_header("Content-Length", str(len(record) if good else 0))
        self.end_headers()
        if good: self.wfile.write(record)
    def log_message(self, *arguments): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON
python3 "$work/gateway.py" "$port" "$record" "$name" 2>"$work/gateway.log" &
background+=($!)
gateway_answers() { curl -s -o /dev/null "http://127.0.0.1:$port/"; }
wait_for 10 gateway_answers || fail "the gateway does not answer"
gateway=http://127.0.0.1:$port
found=$(resolve "$name" --gateway "$gateway" --gateway "http://127.0.0.1:$(free_port)" --json)
same "source" "$gateway" "$(jq -r '.steps[0].source' <<<"$found")"
same "who was away is told" 1 "$(jq '.steps[0].notes | length' <<<"$found")"

begin "domains lead to names and to content"
dns_port=$(free_port)
long=$(printf 'a%.0s' {1..200})
servers() { # servers PORT: the records of all cases
    dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts \
        --bind-interfaces --listen-address=127.0.0.1 --port="$1" --local=/test/ --local-ttl=300 \
        --txt-record="_dnslink.reg.test,dnslink=/ipns/$name" \
        --txt-record="_dnslink.chain.test,dnslink=/ipns/reg.test/docker" \
        --txt-record="_dnslink.cid.test,v=spf1" --txt-record="_dnslink.cid.test,dnslink=/ipfs/$root" \
        --txt-record="apex.test,dnslink=/ipfs/$root" \
        --txt-record="_dnslink.two.test,dnslink=/ipfs/$root" \
        --txt-record="_dnslink.two.test,dnslink=/ipfs/$empty" \
        --txt-record="_dnslink.loop.test,dnslink=/ipns/pool.test" \
        --txt-record="_dnslink.pool.test,dnslink=/ipns/loop.test" \
        $(for number in {1..40}; do echo "--txt-record=_dnslink.many.test,$number$long"; done) \
        --txt-record="_dnslink.many.test,dnslink=/ipfs/$root" 2>"$work/dns-$1.log" &
    background+=($!)
}
servers "$dns_port"
by_dns() { resolve "$@" --dns "127.0.0.1:$dns_port"; }
answers() { by_dns cid.test >/dev/null 2>&1; }
wait_for 10 answers || fail "the name server does not answer: $(tail -n 2 "$work/dns-$dns_port.log")"
same "content" "/ipfs/$root" "$(last_of "$(by_dns cid.test)")"
same "a path below" "/ipfs/$root/docker" "$(last_of "$(by_dns cid.test/docker)")"
now=$(resolve "$name" --record "$record" | tail -n 1)
found=$(by_dns reg.test --record "$record")
same "a key" "$now" "$(last_of "$found")"
same "steps" 2 "$(grep -c -- '->' <<<"$found")"
same "a chain" "$now/docker" "$(last_of "$(by_dns chain.test --record "$record")")"
same "steps of the chain" "dnslink dnslink ipns" \
    "$(by_dns chain.test --record "$record" --json | jq -r '[.steps[].method] | join(" ")')"
found=$(by_dns apex.test)
same "the apex" "/ipfs/$root" "$(last_of "$found")"
grep -q "note: there is no _dnslink.apex.test" <<<"$found" || fail "it does not say that it asked the apex"
same "an answer that needs TCP" "/ipfs/$root" "$(last_of "$(by_dns many.test)")"

begin "the system's resolver is asked where nobody else is named"
servers 53
echo "nameserver 127.0.0.1" >"$work/resolv.conf"
system_file=$(readlink -f /etc/resolv.conf)
mount --bind "$work/resolv.conf" "$system_file"
by_system() { resolve cid.test >/dev/null 2>&1; }
wait_for 10 by_system || fail "it does not answer: $(resolve cid.test 2>&1)"
found=$(resolve cid.test)
same "content" "/ipfs/$root" "$(last_of "$found")"
grep -q "system's resolver (127.0.0.1)" <<<"$found" || fail "it does not say who was asked: $found"
same "an answer that needs TCP" "/ipfs/$root" "$(last_of "$(resolve many.test)")"
found=$(resolve apex.test)
same "the apex" "/ipfs/$root" "$(last_of "$found")"
umount "$system_file"

begin "what leads nowhere is told"
refused() { # refused PATTERN NAME [OPTION...]
    local pattern=$1 status=0
    shift
    by_dns "$@" 2>"$work/error" >/dev/null || status=$?
    same "status of $1" 1 "$status"
    same "lines of $1" 1 "$(wc -l <"$work/error")"
    grep -qE "$pattern" "$work/error" || fail "$1: it says $(<"$work/error")"
}
refused "2 records" two.test
refused "no _dnslink.none.test.*no none.test|leads nowhere" none.test
refused "back to itself" loop.test
refused "nobody is there to ask" reg.test

begin "each new root is published until a signal ends it"
"$registryfs" publish --watch --interval 1 --json "$mnt" >"$work/watch" 2>"$work/watch-error" &
watcher=$!
background+=("$watcher")
published() { [[ $(jq -rs 'last.value' "$work/watch") == "/ipfs/$1" ]]; }
wait_for 30 published "$root" || fail "the first root is not published: $(<"$work/watch-error")"
for round in 1 2; do
    echo "$round" >"$mnt/new"
    publish
    wait_for 30 published "$(root_cid)" || fail "root $round is not published: $(<"$work/watch-error")"
done
kill "$watcher"
wait "$watcher" || :
same "resolved" "/ipfs/$(root_cid)" "$(last_of "$(resolve "$name" --kubo "$rpc_address")")"
same "sequences" "$(jq -rs 'map(.sequence) | sort | unique | length' "$work/watch")" \
    "$(jq -rs 'length' "$work/watch")"

begin "a node that is away takes no record, and the record is kept"
node_kill
before=$(jq .keys[0].sequence <<<"$("$registryfs" key list --json)")
! "$registryfs" publish --kubo "$rpc_address" "$root" >/dev/null 2>"$work/error" || fail "it succeeded"
grep -q "kept" "$work/error" || fail "it says $(<"$work/error")"
same "sequence" $((before + 1)) "$("$registryfs" key list --json | jq .keys[0].sequence)"
volume_down
volume_check
finish
