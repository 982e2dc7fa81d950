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

begin "trusted.* is listed to processes with CAP_SYS_ADMIN alone"
setfattr -n trusted.note -v a "$tree/empty"
listed() { # listed COMMAND...: the names that python lists, run by that command
    # Of Debian: what root has of its own first on PATH is not always for others.
    "$@" /usr/bin/python3 -c \
        'import os, sys; print("names", *sorted(os.listxattr(sys.argv[1])))' "$tree/empty"
}
as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
same "names for root" "names trusted.note" "$(listed env)"
same "names for root without the capability" names "$(listed setpriv --bounding-set=-sys_admin)"
same "names for a user" names "$(listed "${as_user[@]}")"
same "names for a user with the capability" "names trusted.note" \
    "$(listed "${as_user[@]}" --inh-caps=+sys_admin --ambient-caps=+sys_admin)"
if unshare -U true 2>/dev/null; then
    same "names for the root of a user namespace" names "$(listed unshare -Ur)"
fi
setfattr -x trusted.note "$tree/empty"

begin "ipfs.cid of a file is for its readers, of a directory for its owner"
cid_for() { # cid_for UID PATH
    setpriv --reuid="$1" --regid="$1" --clear-groups \
        getfattr --absolute-names -n ipfs.cid --only-values "$2" 2>/dev/null
}
told() { [[ -n $(cid_for "$@") ]] || fail "the CID of $2 is not told to user $1"; }
not_told() { [[ -z $(cid_for "$@") ]] || fail "the CID of $2 is told to user $1"; }
mkdir "$tree/theirs"
chown 1234 "$tree/theirs"
printf secret >"$tree/theirs/secret"
printf public >"$tree/theirs/public"
chmod 600 "$tree/theirs/secret"
told 1234 "$tree/theirs"
not_told 65534 "$tree/theirs"
told 65534 "$tree/theirs/public"
not_told 65534 "$tree/theirs/secret"
volume_again --directory-cids readers
told 65534 "$tree/theirs"
volume_again --directory-cids root
not_told 1234 "$tree/theirs"
volume_again
rm -r "$tree/theirs"

begin "a read-only mount refuses every change"
python3 "$here/snapshot.py" "$tree" >"$work/before"
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
