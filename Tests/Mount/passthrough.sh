#!/usr/bin/env bash
# Files that the kernel reads and writes itself: every mix of handles, mappings and names by real
# system calls (passthrough.py), with passthrough and without; what is left after a crash under
# which a process goes on writing; and where passthrough is not to be had.
source "$(dirname "$0")/lib.sh"

passthrough() { "$registryfs" status --json "$mnt" | jq -r '.mounts[0].passthrough'; }
flat_files() { find "$state/objects" -type f | wc -l; }

volume_up
chmod 755 "$mnt"
same "passthrough of the mount" true "$(passthrough)"
current=""
python3 "$here/passthrough.py" "$mnt" || failed=1

current="small files take no flat file of their own"
why=""
mkdir "$mnt/small"
for index in $(seq 200); do echo "$index" >"$mnt/small/$index"; done
same "files read back" "$(seq 200 | sort)" "$(cat "$mnt"/small/* | sort)"
(($(flat_files) <= 64)) || fail "$(flat_files) flat files beside 200 small ones"
rm -r "$mnt/small"
volume_down
same "flat files after unmount" 0 "$(flat_files)"
volume_check

begin "without passthrough when told so, all of it is the same"
volume_up --no-passthrough
same "passthrough of the mount" false "$(passthrough)"
# One line for each case that fails; those that pass were told above.
python3 "$here/passthrough.py" "$mnt" >"$work/cases" || fail "$(grep -m 2 '^not ok' "$work/cases" | tr '\n' ' ')"
volume_down
volume_check

begin "a process that writes on after kill -9 of the daemon changes nothing that is sealed"
rounds=5
[[ -z $quick ]] || rounds=2
for round in $(seq "$rounds"); do
    volume_up
    head -c 300000 /dev/urandom >"$mnt/file"
    sync "$mnt/file"
    rm -f "$work/ready"
    python3 "$here/passthrough.py" writer "$mnt/file" "$work/ready" &
    writer=$!
    background+=("$writer")
    wait_for 20 test -e "$work/ready" || fail "the writer does not start"
    [[ $((round % 2)) == 0 ]] || sync "$mnt/file"
    daemon_kill
    umount -l "$mnt"
    volume_up
    kill -0 "$writer" || fail "round $round: the writer ended with the daemon"
    same "size after the crash" 300000 "$(stat -c %s "$mnt/file")"
    cid=$(getfattr --absolute-names -n ipfs.cid --only-values "$mnt/file")
    same "CID" "$(python3 "$here/unixfs.py" cid --profile v1 "$mnt/file")" "$cid"
    sum=$(sha256sum <"$mnt/file")
    sleep 0.3
    same "bytes some writes later" "$sum" "$(sha256sum <"$mnt/file")"
    volume_down
    volume_check
    kill -9 "$writer"
    wait "$writer" || :
    background=()
    volume_up
    same "bytes after mounting again" "$sum" "$(sha256sum <"$mnt/file")"
    rm "$mnt/file"
    volume_down
    same "flat files at the end of round $round" 0 "$(flat_files)"
    volume_check
done

begin "a state directory on overlayfs is served without passthrough, and says why"
mkdir -p "$work/over/lower" "$work/over/upper" "$work/over/work" "$work/over/merged"
mount -t overlay overlay -o \
    "lowerdir=$work/over/lower,upperdir=$work/over/upper,workdir=$work/over/work" \
    "$work/over/merged"
disk_state=$state
state=$work/over/merged/state
mkdir "$state"
volume_up
same "passthrough of the mount" false "$(passthrough)"
[[ $("$registryfs" status "$mnt") == *stacked* ]] || fail "status does not say why"
same "lines of the log about it" 1 "$(grep -c 'without passthrough' "$state/registryfs.log")"
chmod 755 "$mnt"
python3 "$here/passthrough.py" "$mnt" >"$work/cases" || fail "$(grep -m 2 '^not ok' "$work/cases" | tr '\n' ' ')"
volume_down
volume_check
umount "$work/over/merged"
state=$disk_state
finish
