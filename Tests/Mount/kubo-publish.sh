#!/usr/bin/env bash
# A volume that publishes to a Kubo node: what stands there, and what a second volume makes of it.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"
in_both_nodes

bytes=500000000 limit=100
[[ -z $quick ]] || { bytes=60000000 limit=20; }
digest=$(make_image "$work/image" --layers 6 --bytes "$bytes")
node_up
node_mount
registry_up

begin "push through the registry, and sync"
push "$work/image" large/image:v1
registry_down
root=$("$registryfs" sync --timeout 120 "$mnt")
same "the root that sync tells" "$(root_cid)" "$root"

begin "the MFS path has the CID of the mount"
same "CID of $mfs" "$root" "$(mfs_hash $mfs)"
same "status --json" "$root" \
    "$("$registryfs" status --json "$mnt" | jq -r '.mounts[0].kubo.publishedRoot')"
same "outbox" 0 "$("$registryfs" status --json "$mnt" | jq '.mounts[0].kubo.outboxFiles')"

begin "the root is pinned by name"
same "pin" "${mfs#/}" "$(rpc pin/ls "arg=$root&names=true" | jq -r --arg root "$root" '.Keys[$root].Name')"

begin "the node gives each blob's bytes, and adds them under the same CID"
blobs=0
while read -r data; do
    blobs=$((blobs + 1))
    blob=${data#"$mnt"} sum=$(basename "$(dirname "$data")")
    same "bytes of $blob" "$sum" "$(rpc cat "arg=/ipfs/$root$blob" | sha256sum | cut -d' ' -f1)"
    same "CID of $blob" "$(root_cid "$data")" \
        "$(rpc add "only-hash=true&quieter=true" -F "file=@$data" | jq -rs 'last.Hash')"
done < <(find "$mnt/docker/registry/v2/blobs" -name data)
# Six layers, the configuration and the manifest.
same "blobs" 8 "$blobs"

begin "a second volume has the same tree at once"
first=$mnt
mnt=$work/second state=$work/state-second
mkdir "$mnt" "$state"
node_mount --from-mfs --cache-size "${limit}M"
same "root CID" "$root" "$(root_cid)"
diff <(cd "$first" && find . | sort) <(cd "$mnt" && find . | sort) || fail "the names differ"
same "root CID after it was listed" "$root" "$(root_cid)"

begin "a pull through it streams, within the limit of the cache"
registry_up
peak=$work/peak
(
    most=0
    while sleep 0.2; do
        now=$(du -sm "$state/objects" "$state/cache" | awk '{ sum += $1 } END { print sum }')
        ((now <= most)) || echo $((most = now)) >"$peak"
    done
) &
watcher=$!
background+=("$watcher")
pull large/image:v1 "$digest"
kill "$watcher"
# What is being fetched comes on top: the window of one reader for each of the six layers.
most=$(<"$peak")
((most <= limit + 120 && most > 0)) || fail "$most MB were here, with a limit of $limit MB"
is_within_limit() {
    now=$(du -sm "$state/objects" "$state/cache" | awk '{ sum += $1 } END { print sum }')
    ((now <= limit + 5))
}
wait_for 10 is_within_limit || fail "$now MB stay here, with a limit of $limit MB"
registry_down

begin "check of both state directories is clean"
volume_down
volume_check
mnt=$first state=$work/state
volume_down
volume_check
finish
