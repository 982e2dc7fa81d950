#!/usr/bin/env bash
# What others do at the MFS path comes into the mount, and nothing is lost where both changed a name.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"
in_both_nodes

node_up
node_mount
mkdir -p "$mnt/dir/deep"
echo one >"$mnt/dir/file"
echo gone >"$mnt/dir/deep/gone"
ln -s file "$mnt/dir/link"
publish
add() { rpc add "pin=false&quieter=true" -F "file=@-" <<<"$1" | jq -rs 'last.Hash'; }
put() { rpc files/write "arg=$mfs/$1&create=true&truncate=true&parents=true" -F "file=@-" <<<"$2"; }
reads() { [[ $(cat "$mnt/$1" 2>/dev/null) == "$2" ]]; }

begin "a file that is added there is seen here"
[[ ! -e $mnt/added ]] # the kernel remembers that there is none
rpc files/cp "arg=/ipfs/$(add outside)&arg=$mfs/added"
wait_for 20 reads added outside || fail "$(ls "$mnt")"

begin "a directory that is added there is seen here"
rpc files/mkdir "arg=$mfs/new/sub&parents=true"
wait_for 20 test -d "$mnt/new/sub" || fail "$(ls "$mnt")"

begin "a file that is changed there is changed here"
put dir/file two
wait_for 20 reads dir/file two || fail "$(cat "$mnt/dir/file")"

begin "a name that is removed there is removed here"
rpc files/rm "arg=$mfs/dir/deep&recursive=true"
wait_for 20 test ! -e "$mnt/dir/deep" || fail "$(ls "$mnt/dir")"

begin "both trees have one CID after it"
publish
same "CID of $mfs" "$(root_cid)" "$(mfs_hash $mfs)"

begin "what both changed is kept twice"
volume_down
# A mount that reaches no node publishes nothing: both sides change what was published last. (One that
# does may merge theirs before a client of the mount has written ours, which is no conflict then.)
volume_up --kubo "127.0.0.1:$(free_port)" --mfs-path "$mfs"
echo ours >"$mnt/dir/file"
volume_down
put dir/file theirs
node_mount
publish
same "our file" ours "$(cat "$mnt/dir/file")"
same "their file" theirs "$(cat "$mnt"/dir/file.mfs-*)"
grep -q "dir/file was changed there and here" "$state/registryfs.log" || fail "the log does not tell"
same "CID of $mfs" "$(root_cid)" "$(mfs_hash $mfs)"

begin "a volume that others' content stands before takes it in"
volume_down
mnt=$work/other state=$work/state-other
mkdir "$mnt" "$state"
node_mount
echo own >"$mnt/own"
publish
same "their content" "ours theirs" "$(cat "$mnt/dir/file" "$mnt"/dir/file.mfs-* | tr '\n' ' ' | sed 's/ $//')"
same "own content" own "$(cat "$mnt/own")"
same "CID of $mfs" "$(root_cid)" "$(mfs_hash $mfs)"
volume_down
volume_check
finish
