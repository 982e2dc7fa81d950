#!/usr/bin/env bash
# What a local filesystem offers, by real system calls (posix.py); that all of it is still there
# after unmount and mount; and that a read-only mount refuses every change.
source "$(dirname "$0")/lib.sh"
in_all_modes

volume_up
chmod 755 "$mnt"
current=""
python3 "$here/posix.py" "$mnt" | sed -uE "s/^(ok .*|not ok [^:]*)/\\1$mode_name/" || failed=1

current="metadata and content are the same after unmount and mount$mode_name"
why=""
tree=$mnt/tree
mkdir -p "$tree/deep/er" "$tree/empty"
for size in 0 1 71 4096 100000 3000000; do
    head -c "$size" /dev/urandom >"$tree/deep/file-$size"
done
truncate -s 3G "$tree/sparse"
ln "$tree/deep/file-71" "$tree/link"
ln -s nowhere "$tree/symlink"
mkfifo "$tree/fifo"
mknod "$tree/null" c 1 3
chown 1234:4321 "$tree/deep/file-1"
chmod 6711 "$tree/deep/file-4096"
chmod 3777 "$tree/empty"
setfattr -n user.note -v "a note" "$tree/deep" "$tree/deep/file-0"
setfacl -m u:1234:rwx "$tree/deep/file-71"
setfacl -d -m g:4321:rx "$tree/deep"
touch -d '2001-02-03 04:05:06.123456789' "$tree/symlink" "$tree/deep/file-100000" -h
printf x >"$tree/"$'\xff\xfe'
for change in a b c; do printf %s "$change" >"$tree/rewritten"; done
python3 "$here/snapshot.py" "$tree" >"$work/before"
volume_again
python3 "$here/snapshot.py" "$tree" >"$work/after"
cmp "$work/before" "$work/after" >&2 ||
    fail "$(diff "$work/before" "$work/after" | head -n 2 | cut -c 1-300 | tr '\n' ' ')"

begin "a read-only mount refuses every change"
volume_down
volume_up --read-only
python3 "$here/snapshot.py" "$tree" >"$work/after"
cmp "$work/before" "$work/after" >&2 || fail "a read-only mount shows something else"
refused() {
    local output
    ! output=$("$@" 2>&1) || fail "not refused: $*"
    [[ $output == *"Read-only file system"* ]] || fail "refused in another way: $output"
}
refused mkdir "$tree/new"
refused touch "$tree/new"
refused rm "$tree/link"
refused mv "$tree/link" "$tree/other"
refused chmod 700 "$tree/link"
refused truncate -s 0 "$tree/deep/file-71"
refused setfattr -n user.a -v b "$tree/link"
refused ln "$tree/link" "$tree/more"

begin "check of the state directory is clean"
volume_down
volume_check
finish
