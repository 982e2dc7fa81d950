#!/usr/bin/env bash
# Requests that come through io_uring: when they do, where the kernel's switch is off, what happens where
# something is missing, requests of every size, and ends of a daemon that has some in its queues.
source "$(dirname "$0")/lib.sh"

begun=$(cut -d' ' -f1 /proc/uptime)
ring() { "$registryfs" status --json "$mnt" | jq -r '.mounts[0].ioUring'; }
# Why not, in words; empty where they do.
reason() { "$registryfs" status --json "$mnt" | jq -r '.mounts[0].ioUringOff // ""'; }
told() { grep -c 'without io_uring' "$state/registryfs.log" || :; }
works() { # a mount that answers, all within a time
    within 60 bash -euc 'echo "$1" >"$2/works"; sync "$2/works"; [[ $(<"$2/works") == "$1" ]]
        rm "$2/works"; ls "$2" >/dev/null' - "$SRANDOM" "$mnt" || fail "the mount does not work"
}
# What is compared with the disk below does not come out of the page cache, nor past the daemon.
same_as_disk() { # same_as_disk OPTION...
    mkdir -p "$work/disk"
    volume_up --no-passthrough "$@"
    python3 "$here/io-uring.py" "$mnt" >"$work/seen" || fail "$(tail -n 3 "$work/seen")"
    volume_down
    volume_check
    [[ -s $work/expected ]] || python3 "$here/io-uring.py" "$work/disk" no-xattrs >"$work/expected"
    cmp "$work/expected" "$work/seen" >&2 || fail "not as on the disk below"
}

if [[ ! -e $ring_switch ]]; then
    begin "this kernel has no io_uring for FUSE, and status says so"
    volume_up
    same "io_uring of the mount" false "$(ring)"
    [[ $(reason) == *"kernel does not have it"* ]] || fail "status says: $(reason)"
    same "lines of the log about it" 1 "$(told)"
    works
    volume_down
    begin "requests of every size by the device are as on the disk below"
    same_as_disk
    finish
fi

# mount_leaves VALUE: mounts, and leaves the switch as it is.
mount_leaves() {
    "$registryfs" mount --state-dir "$state" "$mnt" && same "the switch" "$1" "$(<"$ring_switch")"
}
begin "where the switch is on requests come through io_uring"
with_ring_switch Y mount_leaves Y || fail "the mount fails, or changes the switch"
same "io_uring of the mount" true "$(ring)"
same "the reason why not" "" "$(reason)"
[[ $("$registryfs" status "$mnt") =~ io_uring\ +on ]] || fail "status does not say so"
same "lines of the log about it" 0 "$(told)"
works
volume_down

begin "where it is off a mount leaves it off, and tells how to turn it on, once"
with_ring_switch N mount_leaves N || fail "the mount fails, or changes the switch"
same "io_uring of the mount" false "$(ring)"
for word in "$ring_switch" modprobe.d; do
    [[ $(reason) == *"$word"* ]] || fail "status says: $(reason)"
    grep -q "without io_uring.*$word" "$state/registryfs.log" || fail "the log does not name $word"
done
same "lines of the log about it" 1 "$(told)"
works
volume_down

begin "a test that was killed while it had the switch changed is put right by the next"
was=$(with_ring_switch Y cat "$ring_switch_note")
other=Y
[[ $was == N ]] || other=N
with_ring_switch "$other" bash -c 'kill -9 $PPID' || :
same "what is to be put back" "$was" "$(with_ring_switch Y cat "$ring_switch_note")"

begin "mounts made at the same moment all have it"
mount_four() {
    local number pid pids=()
    for number in 1 2 3 4; do
        mkdir -p "$work/at-$number" "$work/state-$number"
        "$registryfs" mount --state-dir "$work/state-$number" "$work/at-$number" &
        pids+=("$!")
    done
    for pid in "${pids[@]}"; do wait "$pid" || return 1; done
}
rounds=5
[[ -z $quick ]] || rounds=2
for _ in $(seq "$rounds"); do
    with_ring_switch Y mount_four || fail "a mount failed"
    for number in 1 2 3 4; do
        same "io_uring of mount $number" true \
            "$("$registryfs" status --json "$work/at-$number" | jq '.mounts[0].ioUring')"
        "$registryfs" unmount "$work/at-$number"
    done
done

begin "without it when told so"
: >"$state/registryfs.log"
for option in --no-io-uring -ono_io_uring; do
    volume_up "$option"
    same "io_uring of the mount with $option" false "$(ring)"
    [[ $(reason) == *no_io_uring* ]] || fail "status says: $(reason)"
    same "lines of the log about it" 0 "$(told)"
    works
    volume_down
done

begin "with a read-only /sys, as in containers, it is the same"
with_ring_switch Y unshare -m --propagation private bash -euc '
    mount --bind /sys/module/fuse/parameters /sys/module/fuse/parameters
    mount -o remount,ro,bind /sys/module/fuse/parameters
    "$1" mount --state-dir "$2" "$3"
    "$1" status --json "$3" >"$4/status"
    echo content >"$3/file"
    [[ $(<"$3/file") == content ]]
    "$1" unmount "$3"' - "$registryfs" "$state" "$mnt" "$work" ||
    fail "the mount does not work there"
same "io_uring of the mount" true "$(jq '.mounts[0].ioUring' "$work/status")"

begin "where it is forbidden to processes the mount works, and says why, once"
: >"$state/registryfs.log"
with_ring_switch Y python3 "$here/io-uring.py" forbidden "$registryfs" mount --state-dir "$state" "$mnt"
same "io_uring of the mount" false "$(ring)"
[[ $(reason) == *refuses* ]] || fail "status says: $(reason)"
same "lines of the log about it" 1 "$(told)"
works
volume_down

begin "with few file descriptors the mount works"
for limit in 24 30 40 64 70 100 200; do
    (ulimit -n "$limit" && volume_up) || fail "no mount with $limit descriptors"
    # Nothing that has to be opened for it may hang.
    works
    [[ $(ring) == true || $(reason) == *"open files"* ]] || fail "status says: $(reason)"
    pid=$(daemon_pid)
    in_time umount "$mnt"
    wait_for 20 process_gone "$pid" || fail "the daemon stays with $limit descriptors"
done
volume_check

begin "where descriptors end while rings are made, what there is serves, or the device"
queues=$(($(sed 's/.*-//' /sys/devices/system/cpu/possible) + 1))
threads=$(((32 + queues - 1) / queues))
((threads >= 2)) || threads=2
limit=$((2 * queues * threads))
few=0 none=0
mount_with_few() { # mount_with_few FREE: mounts with so many descriptors left of the limit
    (
        for descriptor in $(seq 10 $((9 + limit - $1))); do eval "exec $descriptor</dev/null"; done
        ulimit -n "$limit"
        exec "$registryfs" mount --foreground --state-dir "$state" "$mnt" 2>"$work/log"
    ) &
    echo "$!" >"$work/daemon"
    # Listed only where it is served: the switch matters until then.
    wait_for 20 is_mounted "$mnt" && within 60 ls "$mnt" >/dev/null
}
for free in $(seq 26 -1 20); do
    with_ring_switch Y mount_with_few "$free" || fail "no mount with $free free descriptors: $(<"$work/log")"
    pid=$(<"$work/daemon")
    background=("$pid")
    works
    few=$((few + $(grep -c "few threads" "$work/log" || :)))
    none=$((none + $(grep -c "could not take part" "$work/log" || :)))
    in_time umount "$mnt"
    wait_for 20 process_gone "$pid" || fail "the daemon stays with $free free descriptors"
    background=()
done
((few > 0 && none > 0)) || fail "$few times few threads, $none times none: not what is tested"
volume_check

begin "a daemon that has one processor serves all of them"
(taskset -pc 0 "$BASHPID" >/dev/null && volume_up)
same "io_uring of the mount" true "$(ring)"
mkdir "$mnt/one"
in_time python3 -c 'import os, sys
for processor in sorted(os.sched_getaffinity(0)):
    os.sched_setaffinity(0, {processor})
    for index in range(200):
        path = "%s/%d-%d" % (sys.argv[1], processor, index)
        with open(path, "w") as file: file.write(path)
        assert open(path).read() == path' "$mnt/one"
rm -r "$mnt/one"
volume_down

begin "requests of every size are as on the disk below"
same_as_disk

begin "by the device they are the same"
same_as_disk --no-io-uring

# begin_load DIRECTORY: writes files there in the background, and notes in $work/noted what is synced.
begin_load() {
    mkdir "$1"
    : >"$work/noted"
    within 60 python3 "$here/io-uring.py" load "$1" "$work/noted" >"$work/errors" &
    load=$!
    background=("$load")
    wait_for 30 test -s "$work/noted" || fail "no load"
}

# verify_load DIRECTORY: reads back what begin_load noted.
verify_load() {
    in_time python3 "$here/io-uring.py" verify "$1" "$work/noted" >"$work/verified"
    same "files read back" "$(wc -l <"$work/noted")" "$(<"$work/verified")"
}

# Threads of queues that run behind all others of the daemon.
behind() { ps -L -o comm=,cls= -p "$(daemon_pid)" | grep -c '^fuse-.* IDL$' || :; }
# A number of requests of one client, one after the other; the kernel has no answers to them yet.
ask() { python3 -c 'import os, sys
for name in range(500): os.path.exists("%s/%d-%d" % (sys.argv[1], os.getpid(), name))' "$mnt"; }
is_behind() { ask && (($(behind) > 0)); }
is_before() { ask && (($(behind) == 0)); }

if [[ $(cat /proc/sys/kernel/sched_autogroup_enabled 2>/dev/null) == 1 ]] &&
    grep -qE '^[0-9]+:([^:]*,)?cpu(,[^:]*)?:/$' /proc/self/cgroup; then
    begin "threads of queues run behind all others, but not while something large is hashed"
    volume_up
    wait_for 10 is_behind || fail "no thread runs behind others"
    size=$((2 << 30))
    [[ -z $quick ]] || size=$((512 << 20))
    head -c $size /dev/zero | openssl enc -aes-128-ctr -pass pass:1 -nosalt \
        -out "$mnt/large" 2>/dev/null
    getfattr -n ipfs.cid --only-values "$mnt/large" >"$work/cid" &
    hashing=$!
    seen=""
    while kill -0 "$hashing" 2>/dev/null; do ! is_before || seen=yes; done
    wait "$hashing"
    [[ $seen == yes ]] || fail "threads of queues stayed behind the hashing"
    wait_for 10 is_behind || fail "no thread runs behind others after the hashing"
    rm "$mnt/large"
    volume_down
else
    begin "threads of queues that might share their processors with others keep their policy"
    volume_up
    ask
    same "threads behind others" 0 "$(behind)"
    volume_down
fi

rounds=6
[[ -z $quick ]] || rounds=2
with_seed
begin "kill -9 under load: users get an error, the next mount stands, nothing synced is lost"
for round in $(seq "$rounds"); do
    volume_up
    same "io_uring of the mount" true "$(ring)"
    begin_load "$mnt/load-$round"
    pause 100 1000
    daemon_kill
    wait "$load" || fail "round $round: a user of the dead mount hangs"
    background=()
    for error in $(<"$work/errors"); do
        [[ " ENOTCONN ECONNABORTED ECANCELED EINTR ENODEV " == *" $error "* ]] || fail "$error after kill -9"
    done
    volume_up
    same "mounts at the place" 1 "$(grep -c " $mnt " /proc/self/mountinfo)"
    verify_load "$mnt/load-$round"
    volume_down
done
volume_check

begin "unmounting while requests are in flight ends in time, and leaves no thread"
for round in $(seq "$rounds"); do
    volume_up
    pid=$(daemon_pid)
    begin_load "$mnt/stop-$round"
    if ((round % 2)); then in_time umount -l "$mnt"; else kill "$pid"; fi
    # After a lazy unmount the load goes on by what it has open, and then finds nothing.
    wait "$load" || fail "round $round: the load hangs"
    background=()
    wait_for 30 process_gone "$pid" || fail "round $round: the daemon stays"
    volume_up
    verify_load "$mnt/stop-$round"
    volume_down
done
volume_check

begin "a lazy unmount keeps an open file usable until it is closed"
volume_up
pid=$(daemon_pid)
exec 3<>"$mnt/open"
umount -l "$mnt"
in_time python3 -c 'import os
for index in range(1000):
    os.pwrite(3, b"%04d" % index, index * 4)
os.fsync(3)
assert os.pread(3, 4, 3996) == b"0999"'
exec 3>&-
wait_for 30 process_gone "$pid" || fail "the daemon stays"
volume_up
same "size" 4000 "$(stat -c %s "$mnt/open")"
volume_down
volume_check

begin "the kernel has nothing to complain of"
# A thread that is being killed takes no request any more: EINTR to who asked.
! dmesg 2>/dev/null | tr -d '[]' | awk -v since="$begun" '$1 > since' | grep -v 'failed: -4$' |
    grep -iE 'WARNING.*fuse|unique mismatch|commit_id .* not found|entry teardown|Copy to ring failed' ||
    fail "see dmesg"
finish
