#!/usr/bin/env bash
# The disk below the state directory is full: the writer is told, nothing else suffers.
source "$(dirname "$0")/lib.sh"

truncate -s 200M "$work/disk.img"
mkfs.ext4 -q -m 0 "$work/disk.img"
mount -o loop "$work/disk.img" "$state"
state=$state/state
mkdir "$state"
volume_up
head -c 20000000 /dev/urandom >"$work/data"
cp "$work/data" "$mnt/old"
mkdir "$mnt/directory"
echo small >"$mnt/directory/small"
sync -f "$mnt"

# Writes, syncs and closes; prints the names of what failed, and never another errno than ENOSPC.
fill() {
    python3 - "$1" <<'PYTHON'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
failed = []
def attempt(name, action, *arguments):
    try:
        action(*arguments)
        return True
    except OSError as error:
        failed.append("%s:%s" % (name, errno.errorcode[error.errno]))
        return False
block = os.urandom(1 << 20)
for index in range(400):
    if not attempt("write", os.write, fd, block):
        break
attempt("fsync", os.fsync, fd)
attempt("close", os.close, fd)
print(" ".join(failed))
PYTHON
}
begin "the writer that fills the disk gets ENOSPC"
failures=$(fill "$mnt/filler")
[[ -n $failures ]] || fail "400 MB fitted on a disk of 200 MB"
for failure in $failures; do
    [[ $failure == *:ENOSPC ]] || fail "failures: $failures"
done

begin "the mount lives, and what was there reads as before"
kill -0 "$(daemon_pid)" || fail "the daemon is gone"
cmp "$work/data" "$mnt/old" || fail "old file has other bytes"
same "small file" small "$(cat "$mnt/directory/small")"
# However many small files there is room for, a failure is ENOSPC too.
head -c 60000 /dev/zero | tr '\0' x >"$work/small"
for index in $(seq 2000); do
    cp "$work/small" "$mnt/directory/$index" 2>"$work/error" || break
done
[[ ! -s $work/error ]] || grep -q "No space left" "$work/error" || fail "$(cat "$work/error")"
ls -R "$mnt" >/dev/null || fail "the tree cannot be listed"
cmp "$work/data" "$mnt/old" || fail "old file has other bytes"

begin "once there is room it works again"
rm "$mnt/filler" || fail "a full disk does not let a file be removed"
rm -r "$mnt/directory" || fail "a full disk does not let a directory be removed"
copied() { cp "$work/data" "$mnt/new" 2>/dev/null && sync "$mnt/new" 2>/dev/null; }
wait_for 20 copied || fail "no room 20 s after the filler was removed: $(df -m "$state" | tail -n 1)"
cmp "$work/data" "$mnt/new" || fail "new file has other bytes"

begin "the same after a mount on a full disk"
failures=$(fill "$mnt/filler")
[[ $failures == *ENOSPC* ]] || fail "it did not fill again: $failures"
daemon_kill
volume_up
cmp "$work/data" "$mnt/old" && cmp "$work/data" "$mnt/new" || fail "files have other bytes"
rm "$mnt/filler"
copied() { cp "$work/data" "$mnt/newer" 2>/dev/null && sync "$mnt/newer" 2>/dev/null; }
wait_for 20 copied || fail "no room 20 s after the filler was removed"
volume_down
volume_check
finish
