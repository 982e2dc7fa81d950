#!/usr/bin/env bash
# The daemon's memory stays below 150 MB, whatever the size of a file and of a tree.
source "$(dirname "$0")/lib.sh"

limit_kilobytes=$((150 * 1024))
gibibytes=4 directories=200
[[ -z $quick ]] || gibibytes=1 directories=20
peak() {
    local kilobytes
    kilobytes=$(awk '/^VmHWM:/ { print $2 }' "/proc/$(daemon_pid)/status")
    echo "peak of the daemon's resident memory after $1: $((kilobytes / 1024)) MB" >&2
    ((kilobytes < limit_kilobytes)) || fail "$((kilobytes / 1024)) MB resident after $1"
}
stream() {
    head -c "$((gibibytes << 30))" /dev/zero | openssl enc -chacha20 -K "$(printf '%064d' 7)" \
        -iv "$(printf '%032d' 0)"
}

begin "a file of $gibibytes GiB is written, sealed and read"
volume_up
stream | dd of="$mnt/big" bs=1M iflag=fullblock conv=fsync status=none
peak "writing"
getfattr --absolute-names -n ipfs.cid --only-values "$mnt/big" >/dev/null
peak "sealing"
cmp <(stream) "$mnt/big" || fail "it reads back other bytes"
volume_again
cmp <(stream) "$mnt/big" || fail "it reads back other bytes after unmount and mount"
peak "reading"
rm "$mnt/big"

begin "a tree of ${directories}000 files is made and listed"
python3 - "$mnt/tree" "$directories" <<'PYTHON'
import os, sys
os.mkdir(sys.argv[1])
for directory in range(int(sys.argv[2])):
    path = "%s/%d" % (sys.argv[1], directory)
    os.mkdir(path)
    for index in range(1000):
        with open("%s/%d" % (path, index), "wb", 0) as file:
            file.write(b"sha256:%064d" % (directory * 1000 + index))
PYTHON
peak "making it"
same "files" "${directories}000" "$(find "$mnt/tree" -type f -size 1 | wc -l)"
peak "listing it"
getfattr --absolute-names -n ipfs.cid --only-values "$mnt" >/dev/null
peak "its root CID"

# Then no commit comes by to put anything out of memory.
begin "a tree of ${directories}000 files that is only read stays far below that, and is removed"
limit_kilobytes=$((100 * 1024))
volume_down
volume_up --read-only
same "files" "${directories}000" "$(find "$mnt/tree" -type f -size 1 | wc -l)"
peak "listing it once more"
find "$mnt/tree" -type f -print0 | xargs -0 cat | wc -c >/dev/null
peak "reading it"
limit_kilobytes=$((150 * 1024))
volume_down
volume_up
rm -r "$mnt/tree"
peak "removing it"
same "what is left" "" "$(ls "$mnt")"
volume_down
volume_check
finish
