#!/usr/bin/env bash
# What UnixFS cannot say of a tree goes with it in a portable manifest: a mount from that has everything back, as
# rsync sees it, from a CAR file and by a gateway.
source "$(dirname "$0")/lib.sh"
source "$here/trees-lib.sh"

# same_trees: what rsync would have to bring to the other, either way round.
same_trees() {
    local one other
    for one in "$mnt" "$at"; do
        other=$([[ $one == "$mnt" ]] && echo "$at" || echo "$mnt")
        rsync -aHAXn --delete --itemize-changes "$one/" "$other/" >"$work/differences"
        [[ ! -s $work/differences ]] || fail "rsync sees: $(head -n 5 "$work/differences" | tr '\n' ' ')"
    done
}

begin "a snapshot with a manifest, of everything that a tree can have"
volume_up
mkdir -p "$mnt/directory/below" "$mnt/wide"
mknod "$mnt/directory/pipe" p
mknod "$mnt/device" c 1 3
mknod "$mnt/directory/disk" b 7 200
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$mnt/directory/socket"
head -c 3000000 /dev/urandom >"$mnt/directory/large"
echo one >"$mnt/one"
ln "$mnt/one" "$mnt/directory/below/two"
ln "$mnt/one" "$mnt/directory/three"
ln -s ../one "$mnt/directory/link"
chown -h 12:34 "$mnt/directory/link"
ln "$mnt/directory/link" "$mnt/link-again"
for ((number = 0; number < 3000; number++)); do echo "$number" >"$mnt/wide/a-name-of-some-length-$number"; done
touch "$mnt/"$'odd \x01\xff name'
chown 1000:100 "$mnt/one" "$mnt/wide"
chmod 4751 "$mnt/directory/large"
chmod 2770 "$mnt/wide"
chmod 1777 "$mnt/directory/below"
setfattr -n user.text -v value "$mnt/one"
setfattr -n trusted.bytes -v 0x00ff00 "$mnt/directory"
setfattr -n user.long -v "$(head -c 6000 /dev/zero | tr '\0' v)" "$mnt/directory/large"
setfacl -m u:1234:rw,g:77:r "$mnt/directory/three"
setfacl -d -m u:1234:rwx "$mnt/wide"
touch -d 2001-02-03T04:05:06.789012345 "$mnt/directory/large"
touch -h -d 1969-12-31T00:00:00.5Z "$mnt/directory/link"
touch -d 2038-02-03T04:05:06.7 "$mnt/directory"
chmod 750 "$mnt"
made=$("$registryfs" snapshot create all --with-manifest --json)
manifest=$(jq -r .manifest <<<"$made")
[[ $manifest == bafy* ]] || fail "no manifest: $made"
same "the tree" "$("$registryfs" cid "$mnt")" "$(jq -r .root <<<"$made")"
same "of the same tree" "$manifest" "$("$registryfs" snapshot create again --with-manifest --json | jq -r .manifest)"
"$registryfs" snapshot export all -o "$work/tree.car"

begin "a mount from its CAR file has everything back"
tree_up 1 --from "$work/tree.car"
same_trees
same "root CID" "$("$registryfs" cid "$mnt")" "$("$registryfs" cid "$at")"
echo more >"$at/directory/below/two"
same "a hard link is one file" more "$(<"$at/one")"
tree_down
"$registryfs" check --state-dir "$work/state-1" >"$work/checked" || fail "check: $(<"$work/checked")"
tree_up 1 --from "$work/tree.car"
same "what was changed" more "$(<"$at/directory/three")"
tree_down

begin "a mount by a gateway has everything back, by the manifest's CID alone"
refused "imported" "$registryfs" import-car "$work/tree.car" --at all-again "$mnt"
gateway_up manifest
tree_up 2 --from "$manifest" --gateway "$manifest_url"
same_trees
tree_down

begin "a record of an IPNS key leads to a manifest, too"
"$registryfs" key generate >"$work/key"
published=$("$registryfs" publish --offline --with-manifest --json "$mnt") || fail "publish: $published"
same "what it leads to" "/ipfs/$manifest" "$(jq -r .value <<<"$published")"

begin "check of the state directory is clean, and of one without the snapshots"
for name in $("$registryfs" snapshot list --json | jq -r '.snapshots[].name'); do
    "$registryfs" snapshot delete "$name" >"$work/deleted"
done
volume_down
volume_check
finish
