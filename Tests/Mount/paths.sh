#!/usr/bin/env bash
# Every way in which a person can name a mount point, a path on a mount, and a state directory: by
# symlinks, with slashes and dots, from the working directory, by bind mounts, and after a move.
source "$(dirname "$0")/lib.sh"

cid() { "$registryfs" cid "$@"; }
# refuses PATTERN COMMAND...: the command fails and says why.
refuses() {
    local output
    ! output=$("${@:2}" 2>&1) || fail "not refused: ${*:2}"
    [[ $output == *"$1"* ]] || fail "'${*:2}' says: $output"
}
mount_point_by() { "$registryfs" status --json "$1" | jq -r '.mounts[0].mountpoint'; }
gone() { ! is_mounted "$mnt"; }

ln -s mnt "$work/link"
ln -s "$work/link" "$work/far-link"
volume_at() { "$registryfs" mount --state-dir "$state" "$1"; }

begin "a mount point that is a symlink is mounted, told of and unmounted by either name"
for by in "$work/link" "$mnt" "$work/far-link/"; do
    volume_at "$work/link"
    is_mounted "$mnt" || fail "nothing is mounted at what the symlink names"
    echo content >"$mnt/file"
    same "mount point that status tells" "$mnt" "$(mount_point_by "$by")"
    same "CID of the root" "$(cid "$mnt")" "$(cid "${by%/}/")"
    same "CID of a file" "$(cid "$mnt/file")" "$(cid "$by/file")"
    "$registryfs" unmount "$by"
    gone || fail "still mounted after unmount $by"
done

begin "a daemon whose mount point was given as a symlink unmounts at SIGTERM"
volume_at "$work/link"
pid=$(daemon_pid)
kill "$pid"
wait_for 20 process_gone "$pid" || fail "the daemon stays"
gone || fail "still mounted"
volume_check

begin "a dead mount behind a symlink is mounted over and unmounted"
volume_at "$work/link"
daemon_kill
volume_at "$work/link"
same "content" content "$(<"$work/link/file")"
daemon_kill
"$registryfs" unmount "$work/link" 2>"$work/error" || fail "$(<"$work/error")"
gone || fail "still mounted"

begin "every form of a path names the same"
volume_at "$mnt"
mkdir -p "$mnt/sub/deep" "$work/second" "$work/state-second"
echo inner >"$mnt/sub/inner"
ln -s sub "$mnt/in"
ln -s "$work/second" "$mnt/out"
ln -s ../second/file "$mnt/out-by-dots"
"$registryfs" mount --state-dir "$work/state-second" "$work/second"
echo other >"$work/second/file"
expected=$(cid "$mnt/sub/inner")
[[ $expected == bafk* ]] || fail "CID of a file: $expected"
cd "$work"
for path in mnt/sub/inner ./mnt//sub/./inner link/sub/inner link/../mnt/sub/inner mnt/in/inner \
    mnt/../link/sub/deep/../inner "../${work##*/}/far-link/in/deep/../inner" second/../mnt/sub/inner \
    mnt/out/../mnt/sub/inner; do
    same "CID of $path" "$expected" "$(cid "$path")"
    same "size of $path" 6 "$("$registryfs" inspect --json "$path" | jq .size)"
done
for path in mnt mnt/ mnt/. link link/ far-link ./link/. link/../mnt second/../link mnt/../second/../mnt mnt/sub; do
    same "mount point of $path" "$mnt" "$(mount_point_by "$path")"
done
for path in second mnt/../second link/../second/; do
    same "mount point of $path" "$work/second" "$(mount_point_by "$path")"
done
cd "$mnt/sub"
same "CID of . on the mount" "$(cid "$mnt/sub")" "$(cid .)"
same "CID of .. on the mount" "$(cid "$mnt")" "$(cid ..)"
same "CID out of it and back" "$expected" "$(cid ../../mnt/sub/inner)"
same "mount point of .. on the mount" "$mnt" "$(mount_point_by ..)"
same "mount point of another out of it" "$work/second" "$(mount_point_by ../../second)"
cd "$work"

begin "a symlink's own CID without a slash after it, its target's with one"
same "CID of a symlink in the volume" "$(cid "$mnt/sub")" "$(cid "$mnt/in/")"
same "CID of a symlink to another volume" "$(cid second/)" "$(cid "$mnt/out/")"
same "CID behind a symlink that leaves the volume by dots" "$(cid second/file)" "$(cid "$mnt/out/../second/file")"
for path in in out out-by-dots; do
    same "kind of $path" symlink "$("$registryfs" inspect --json "$mnt/$path" | jq -r .kind)"
done
same "the same without the mount point" "$(cid "$mnt/sub")" "$(cid --state-dir "$state" /in/)"
refuses "Not a directory" cid "$mnt/file/"
refuses "Not a directory" cid "$mnt/sub/inner/."
refuses "is not on a mount" cid "$work/file"
refuses "may lead out" "$registryfs" status "$mnt/sub/../../second"
refuses "lies on the mount" "$registryfs" unmount "$mnt/sub"
refuses "lies on another mount" "$registryfs" mount --state-dir "$work/state-third" "$mnt/sub"
"$registryfs" unmount link/../second
! is_mounted "$work/second" || fail "still mounted"

begin "bind mounts are told of and read, and are left to umount(8)"
mkdir "$work/bound" "$work/whole"
mount --bind "$mnt/sub" "$work/bound"
mount --bind "$mnt" "$work/whole"
same "CID by a bind mount of a directory" "$expected" "$(cid bound/inner)"
same "CID by a bind mount of all" "$expected" "$(cid whole/in/inner)"
same "CID up from a bind mount" "$expected" "$(cid bound/../mnt/sub/inner)"
same "mount point by a bind mount" "$mnt" "$(mount_point_by bound)"
refuses "umount(8)" "$registryfs" unmount bound
refuses "umount(8)" "$registryfs" unmount whole
refuses "umount(8)" "$registryfs" unmount "$mnt"
same "content after all that" inner "$(<"$mnt/sub/inner")"
umount bound
umount whole
"$registryfs" unmount "$mnt"
gone || fail "still mounted"

begin "a mount that was moved is told of and unmounted where it stands"
mkdir -p "$work/above/mnt" "$work/moved"
"$registryfs" mount --state-dir "$state" "$work/above/mnt"
mv "$work/above" "$work/renamed"
same "mount point after its directory was renamed" "$work/renamed/mnt" "$(mount_point_by renamed/mnt)"
"$registryfs" unmount renamed/mnt
! is_mounted "$work/renamed/mnt" || fail "still mounted"
"$registryfs" mount --state-dir "$state" "$mnt"
pid=$(daemon_pid)
mount --move "$mnt" "$work/moved"
same "mount point after the move" "$work/moved" "$(mount_point_by moved)"
same "content" inner "$(<"$work/moved/sub/inner")"
kill "$pid"
wait_for 20 process_gone "$pid" || fail "the daemon stays at SIGTERM"
! is_mounted "$work/moved" || fail "still mounted after SIGTERM"
volume_check

begin "a state directory behind a symlink is the same one"
ln -s state "$work/state-link"
cd "$work"
"$registryfs" mount --state-dir state-link "$mnt"
for by in state-link state-link/ "$work/state" state ./mnt/../state-link; do
    same "mounts of $by" 1 "$("$registryfs" status --json --state-dir "$by" | jq '.mounts | length')"
    same "bytes by $by" inner "$("$registryfs" block --state-dir "$by" "$expected")"
    same "CID by $by" "$expected" "$(cid --state-dir "$by" sub/inner)"
done
refuses "in use" "$registryfs" mount --state-dir state "$work/second"
refuses "lies on another mount" "$registryfs" mount --state-dir "$work/link/state" "$work/second"
"$registryfs" unmount mnt
"$registryfs" check --state-dir state-link >/dev/null 2>&1 || fail "check by a symlink"
refuses "must not lie within" "$registryfs" mount --state-dir "$work/link/state" "$mnt"
finish
