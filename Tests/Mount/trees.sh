#!/usr/bin/env bash
# A tree leaves its machine: an image is pushed to a registry on a mount, the tree becomes a CAR file, and
# everybody mounts it from its CID, by a gateway (the double, with faults), from the file, by a domain (a name
# server on the loopback) and by an IPNS name.
source "$(dirname "$0")/lib.sh"

source "$here/trees-lib.sh"

begin "an image is pushed, and the tree becomes a CAR file"
volume_up
registry_up
digest=$(make_image "$work/image" --layers 6 --bytes $((20 << 20)) --seed 7)
push "$work/image" "team/app:1"
registry_down
mkdir "$mnt/wide"
for number in {1..3000}; do echo "$number" >"$mnt/wide/a-longer-name-of-a-file-$number"; done
root=$("$registryfs" cid "$mnt")
"$registryfs" export-car "$mnt" -o "$work/tree.car"
listing "$mnt" >"$work/listing"
volume_down

begin "by a gateway: the stock registry pulls the image, and all reads as it was"
gateway_up first
tree_up 1 --from "$root" --gateway "$first_url"
same "origin" "/ipfs/$root" "$(status_of .origin.reference)"
registry_up "$at"
pull "team/app:1" "$digest"
pull "team/app:1" "$digest"
registry_down
diff <(listing "$at") "$work/listing" || fail "not all reads as it was"
same "root CID" "$root" "$("$registryfs" cid "$at")"

begin "by a gateway: what is changed is the volume's own, and all else keeps its CID"
wide=$("$registryfs" cid "$at/wide")
echo new >"$at/new"
[[ $("$registryfs" cid "$at") != "$root" ]] || fail "the root CID is as it was"
same "CID of what did not change" "$wide" "$("$registryfs" cid "$at/wide")"
rm "$at/new"
same "root CID" "$root" "$("$registryfs" cid "$at")"
tree_down

begin "a volume keeps its origin, and needs nobody to be mounted again"
kill "$first_pid"
tree_up 1 --from "/ipfs/$root" --gateway "$first_url"
diff <(listing "$at") "$work/listing" || fail "not all is here"
tree_down
refused "has the tree of" "$registryfs" mount --state-dir "$work/state-1" \
    --from "/ipfs/$root/wide" --gateway "$first_url" "$at"
"$registryfs" mount --state-dir "$state" "$mnt"
volume_down
refused "has a tree of its own" "$registryfs" mount --state-dir "$state" --from "$root" \
    --gateway "$first_url" "$mnt"

begin "by a CAR file: no network at all"
tree_up 2 --from "$work/tree.car"
diff <(listing "$at") "$work/listing" || fail "not all reads as it was"
same "root CID" "$root" "$("$registryfs" cid "$at")"
tree_down

begin "read-only, a path below, and what is no directory"
gateway_up second
tree_up 3 --from "ipfs://$root/wide" --gateway "$second_url" --read-only
same "a file" 17 "$(<"$at/a-longer-name-of-a-file-17")"
! touch "$at/new" 2>/dev/null || fail "a read-only mount was changed"
tree_down
refused "no directory" "$registryfs" mount --state-dir "$work/state-4" \
    --from "/ipfs/$root/wide/a-longer-name-of-a-file-1" --gateway "$second_url" "$at"
refused "no entry" "$registryfs" mount --state-dir "$work/state-4" \
    --from "/ipfs/$root/nowhere" --gateway "$second_url" "$at"
refused "add --gateway" "$registryfs" mount --state-dir "$work/state-4" --from "$root" "$at"

begin "a gateway that lies is asked no more, and named; another one gives all"
gateway_up liar --fault flip
tree_up 5 --from "$root" --gateway "$liar_url" --gateway "$second_url"
diff <(listing "$at") "$work/listing" || fail "wrong bytes were served"
same "state of the liar" excluded \
    "$(status_of ".sources[] | select(.address | startswith(\"$liar_url\")).state")"
tree_down

begin "whatever goes wrong with a gateway, the other one gives all"
number=20
for fault in page endless truncate extra cutReply:1000 redirect busy:60 status:500 status:404 drip:100; do
    gateway_up faulty --fault "$fault"
    number=$((number + 1))
    tree_up "$number" --from "/ipfs/$root/docker" --gateway "$faulty_url" --gateway "$second_url"
    diff <(listing "$at") <(grep " \./docker/" "$work/listing" | sed 's, \./docker/, ./,') ||
        fail "$fault: not all reads as it was"
    tree_down
    kill "$faulty_pid"
done

begin "a gateway that stalls holds nobody up, and one that vanishes is replaced"
gateway_up staller --fault hang
tree_up 6 --from "$root" --gateway "$staller_url" --gateway "$second_url"
diff <(listing "$at/wide") <(grep " \./wide/" "$work/listing" | sed 's, \./wide/, ./,') ||
    fail "not all reads as it was"
gateway_up third
tree_down
tree_up 7 --from "$root" --gateway "$second_url" --gateway "$third_url"
ls "$at" >/dev/null
kill "$second_pid"
diff <(listing "$at") "$work/listing" || fail "not all reads as it was"
tree_down

begin "by a domain: its DNSLink is followed, and each new root comes without a remount"
dns_up() { # dns_up CID: a name server that knows one domain, whose records nobody may keep
    [[ -z ${dns_pid:-} ]] || { kill "$dns_pid" && wait "$dns_pid" || :; }
    dnsmasq --keep-in-foreground --conf-file=/dev/null --port="$dns_port" --no-resolv --no-hosts \
        --listen-address=127.0.0.1 --bind-interfaces --pid-file= --local-ttl=0 --user=root \
        --txt-record="_dnslink.registry.test,dnslink=/ipfs/$1" >"$work/dns.log" 2>&1 </dev/null &
    dns_pid=$!
    background+=("$dns_pid")
}
dns_port=$(free_port)
dns_up "$root/wide"
same "what it resolves to" "/ipfs/$root/wide" \
    "$("$registryfs" resolve --dns "127.0.0.1:$dns_port" registry.test | tail -n 1)"
tree_up 8 --from registry.test --follow --dns "127.0.0.1:$dns_port" --gateway "$third_url"
same "a file" 17 "$(<"$at/a-longer-name-of-a-file-17")"
! touch "$at/new" 2>/dev/null || fail "what follows a name was changed"
refused "read-only" "$registryfs" import "$root" "$at/new"
exec 5<"$at/a-longer-name-of-a-file-1"
dns_up "$root"
is_followed() { [[ -d $at/wide && ! -e $at/a-longer-name-of-a-file-17 ]]; }
wait_for 120 is_followed || fail "it does not follow: $(status_of .origin.lastError)"
same "a file, elsewhere now" 17 "$(<"$at/wide/a-longer-name-of-a-file-17")"
same "a file that was open" 1 "$(cat <&5)"
exec 5<&-
same "root CID" "$root" "$("$registryfs" cid "$at")"
same "what status tells" "/ipns/registry.test $root true" \
    "$(status_of '.origin | "\(.reference) \(.root) \(.followed)"')"
kill "$dns_pid"
tree_down

begin "import gives a name to a CID at the cost of one entry, and --pin fetches it"
rm -rf "$state"
volume_up --gateway "$third_url"
mkdir "$mnt/mirror"
same "the CID told" "$root" "$("$registryfs" import "$root" "$mnt/mirror/all")"
same "its CID" "$root" "$("$registryfs" cid "$mnt/mirror/all")"
same "remote objects" 0 "$("$registryfs" status --json "$mnt" | jq '.mounts[0].remoteObjects')"
same "a file" 99 "$(<"$mnt/mirror/all/wide/a-longer-name-of-a-file-99")"
refused "File exists" "$registryfs" import "$root" "$mnt/mirror/all"
"$registryfs" import --pin --json "/ipfs/$root" "$mnt/pinned" >"$work/imported"
same "files fetched" "$(wc -l <"$work/listing")" "$(jq .files "$work/imported")"
kill "$third_pid"
volume_again
diff <(listing "$mnt/pinned") "$work/listing" || fail "not all is here"

begin "import of a CAR file brings all of it, offline"
same "the CID told" "$root" "$("$registryfs" import "$work/tree.car" "$mnt/archive")"
head -c $(($(stat -c %s "$work/tree.car") / 2)) "$work/tree.car" >"$work/cut.car"
! "$registryfs" import "$work/cut.car" "$mnt/cut" 2>/dev/null || fail "a file that is cut off was imported"
[[ ! -e $mnt/cut ]] || fail "a part of a file that is cut off stays"
rm "$work/tree.car"
volume_again
diff <(listing "$mnt/archive") "$work/listing" || fail "not all is here"
volume_down
volume_check
finish
