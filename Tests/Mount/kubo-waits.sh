#!/usr/bin/env bash
# A node that is stopped: what waits for it holds up nobody else, and each wait can be ended.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"
in_all_modes

# The double alone: a node is stopped here that others may use.
node_up
cp_range() { # cp_range FROM TO: copies 2 MiB by copy_file_range(2), which nothing shares
    exec python3 -c '
import os, sys
source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
os.copy_file_range(source, target, 2 << 20, 4096, 0)' "$1" "$2"
}
overwrite() { # overwrite FILE: writes into the middle of it
    exec dd if=/dev/zero of="$1" bs=1k count=1 seek=100 conv=notrunc status=none
}
publish_file() { # publish_file NAME: a file of 4 MiB at the MFS path
    head -c 4M /dev/urandom >"$work/$1"
    rpc add "pin=false&quieter=true" -F "file=@$work/$1" | jq -rs 'last.Hash' >"$work/$1.cid"
    rpc files/cp "arg=/ipfs/$(<"$work/$1.cid")&arg=$mfs/$1&parents=true"
}
for name in source written read; do publish_file "$name"; done
node_mount --from-mfs --fetch-timeout 600
mkdir "$mnt/folder"
echo here >"$mnt/folder/own"
ls -R "$mnt" >/dev/null
publish
kill -STOP "$node_pid"

waiting=()
wait_in_background() { # wait_in_background COMMAND ARGUMENT...: leaves a process of its own that waits
    "$@" >/dev/null 2>&1 &
    waiting+=("$!")
    background+=("$!")
}
all_wait() {
    local pid
    for pid in "${waiting[@]}"; do
        ! process_gone "$pid" || fail "a process that should wait has ended"
    done
}

begin "a copy, a write and a read that wait for a stopped node hold nobody up"
wait_in_background cp_range "$mnt/source" "$mnt/copied"
wait_in_background overwrite "$mnt/written"
wait_in_background cat "$mnt/read"
sleep 1
at_once() { # at_once COMMAND ARGUMENT...
    timeout 30 "$@" >"$work/out" 2>&1 || fail "$*: waits, or failed: $(tail -n 1 "$work/out")"
}
all_wait
at_once "$registryfs" status "$mnt"
at_once stat "$mnt/copied" "$mnt/written" "$mnt/source"
at_once "$registryfs" cid "$mnt/folder"
at_once "$registryfs" cid "$mnt/written"
at_once dd if=/dev/zero of="$mnt/folder/synced" bs=64k count=4 conv=fsync status=none
at_once sync -f "$mnt/folder/own"
at_once mv "$mnt/folder/own" "$mnt/folder/moved"
at_once "$registryfs" inspect "$mnt/written"
at_once mv "$mnt/written" "$mnt/folder/written"
at_once rm "$mnt/folder/written"
all_wait

begin "a signal ends each of them"
for pid in "${waiting[@]}"; do
    kill -INT "$pid" 2>/dev/null || :
    kill -TERM "$pid" 2>/dev/null || :
done
for pid in "${waiting[@]}"; do
    wait_for 30 process_gone "$pid" || fail "process $pid waits on: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
    wait "$pid" || :
done

begin "unmount does not wait for a stopped node"
at_once "$registryfs" unmount "$mnt"
kill -CONT "$node_pid"

begin "SIGTERM ends the mount although a mapped page waits for a stopped node to be written"
publish_file mapped
node_mount --fetch-timeout 600
wait_for 30 test -e "$mnt/mapped" || fail "what others put at the MFS path does not come"
mkfifo "$work/go"
python3 - "$mnt/mapped" "$work/go" "$work/ready" <<'PYTHON' &
import mmap, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(file, 4 << 20)
memory[0] # of 4 leaves, the first
open(sys.argv[3], "w").close()
open(sys.argv[2]).close()
memory[0] = 1
open(sys.argv[3], "a").write("dirty")
time.sleep(600)
PYTHON
background+=("$!")
wait_for 30 test -e "$work/ready" || fail "the file cannot be mapped"
pid=$(daemon_pid)
kill -STOP "$node_pid"
: >"$work/go"
wait_for 30 test -s "$work/ready" || fail "the page cannot be written"
kill -TERM "$pid"
wait_for 60 process_gone "$pid" || fail "the daemon stays"
kill -CONT "$node_pid"
volume_check
finish
