#!/usr/bin/env bash
# State directories of builds before this one, killed with changes that the redo log alone had, with a
# Kubo node that has a part of the bytes: this build has all that theirs had. `earlier-states/make` makes
# one of the build of now.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"

for archive in "$here"/earlier-states/*.tar.gz; do
    build=$(basename "$archive" .tar.gz)
    rm -rf "$state" "$node_directory"
    tar -C "$work" --numeric-owner -xzf "$archive"
    rpc_address=""
    node_up

    begin "$build: reads back equal, what the redo log alone had as well"
    node_mount
    same "when last was written" "$(<"$work/last")" "$(stat -c %y "$mnt/last")"
    python3 "$here/snapshot.py" "$mnt" >"$work/found"
    diff <(grep -v '^\["b'"'./last'" "$work/snapshot") <(grep -v '^\["b'"'./last'" "$work/found") \
        >"$work/differences" || fail "$(head -n 4 "$work/differences" | tr '\n' ' ')"
    same "root CID" "$(<"$work/root")" "$(root_cid)"

    begin "$build: can be changed and published"
    echo more >>"$mnt/evicted-1"
    echo new >"$mnt/new"
    publish
    same "CID of $mfs" "$(root_cid)" "$(mfs_hash $mfs)"
    volume_again
    same "its last bytes" more "$(tail -c 5 "$mnt/evicted-1")"

    begin "$build: checks clean"
    volume_down
    volume_check
    node_kill
done
finish
