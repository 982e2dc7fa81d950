#!/usr/bin/env bash
# A node that is away, is killed, lies, or hangs: nothing is lost, nothing hangs, nothing wrong is read.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"
in_both_nodes

rounds=10
[[ -z $quick ]] || rounds=3
with_seed
node_up
node_mount
registry_up

begin "pushes while the node is killed and comes back"
# push_round N: an image that no other round has; the client may be told of a failure.
push_round() {
    make_image "$work/image$1" --layers 4 --bytes 60000000 --seed "$1" >"$work/digest$1"
    skopeo_copy "oci:$work/image$1" "docker://127.0.0.1:$port/faults/image:v$1" 2>>"$work/push.log" &&
        echo "$1" >>"$work/pushed"
}
: >"$work/pushed"
for round in $(seq "$rounds"); do
    push_round "$round" &
    pushing=$!
    pause 0 900
    node_kill
    pause 0 900
    node_up
    wait "$pushing" || fail "push $round failed, with the node's end alone: $(tail -n 2 "$work/push.log")"
done
publish
same "CID of $mfs" "$(root_cid)" "$(mfs_hash $mfs)"

begin "pushes while the daemon is killed"
for round in $(seq $((rounds + 1)) $((2 * rounds))); do
    push_round "$round" &
    pushing=$!
    pause 100 900
    daemon_kill
    wait "$pushing" || :
    registry_down
    umount -l "$mnt" 2>/dev/null || :
    node_mount
    registry_up
done
publish
same "CID of $mfs" "$(root_cid)" "$(mfs_hash $mfs)"
while read -r round; do
    pull "faults/image:v$round" "$(<"$work/digest$round")"
done <"$work/pushed"

begin "the node has all of it: nothing is missing below the root"
rpc refs "arg=$(root_cid)&recursive=true&unique=true&offline=true" >"$work/refs"
! jq -e 'select(.Err != "")' "$work/refs" >/dev/null || fail "$(jq -c 'select(.Err != "")' "$work/refs" | head -n 1)"
registry_down

begin "the mount works while the node is away, and sync says so"
node_kill
echo away >"$mnt/away"
same "what was written" away "$(cat "$mnt/away")"
if "$registryfs" sync --timeout 2 "$mnt" 2>"$work/sync.log"; then fail "sync succeeded without a node"; fi
grep -q "not published" "$work/sync.log" || fail "$(<"$work/sync.log")"
[[ $("$registryfs" status --json "$mnt" | jq -r '.mounts[0].kubo.lastError') == *kubo* ]] ||
    fail "status tells no error"

begin "what waited is sent when the node is back"
node_up
publish
same "what the node has" away "$(rpc cat "arg=/ipfs/$(root_cid)/away")"

if is_double; then
    begin "nothing is sent again that the node has"
    control DELETE stats
    volume_again --kubo "$rpc_address" --mfs-path "$mfs" --publish-interval 1
    echo more >"$mnt/more"
    publish
    sent=$(control GET stats | jq '[.[].blockBytes] | add')
    ((sent < 100000)) || fail "$sent bytes were sent for one small file"
fi

begin "an evicted file that the node cannot give is EIO at once, and others go on"
volume_down
mnt=$work/second state=$work/state-second
mkdir "$mnt" "$state"
publish_file() { # publish_file NAME COUNT: a file of COUNT MiB at the MFS path
    head -c "$2"M /dev/urandom >"$work/$1"
    rpc add "pin=false&quieter=true" -F "file=@$work/$1" | jq -rs 'last.Hash' >"$work/$1.cid"
    rpc files/cp "arg=/ipfs/$(<"$work/$1.cid")&arg=$mfs/$1"
}
publish_file lost 4
publish_file good 4
node_mount --from-mfs --fetch-timeout 10
leaf=$(rpc refs "arg=$(<"$work/lost.cid")" | jq -rs '.[2].Ref')
rpc block/rm "arg=$leaf&force=true" >/dev/null
if within 30 cat "$mnt/lost" >/dev/null 2>"$work/cat.log"; then fail "it was read"; fi
grep -q "Input/output error" "$work/cat.log" || fail "$(<"$work/cat.log")"
cmp "$work/good" "$mnt/good"
within 5 stat "$mnt/lost" >/dev/null || fail "stat waits too"
grep -q "$leaf" "$state/registryfs.log" || fail "the log does not name the block"

if is_double; then
    begin "wrong bytes are never served"
    for kind in flip truncate extra; do
        publish_file "lie-$kind" 3
        wait_for 20 test -e "$mnt/lie-$kind"
        control POST faults "{\"command\":\"block/get\",\"kind\":\"$kind\",\"value\":7}"
        if within 60 cat "$mnt/lie-$kind" >"$work/lie" 2>"$work/cat.log"; then fail "$kind: it was read"; fi
        grep -q "Input/output error" "$work/cat.log" || fail "$kind: $(<"$work/cat.log")"
        cmp -n "$(stat -c %s "$work/lie")" "$work/lie" "$work/lie-$kind"
        grep -q "block baf.* is not to be had" "$state/registryfs.log" || fail "the log does not name the block"
        control DELETE faults
        sleep 6 # a block that failed is not asked for again before
        cmp "$work/lie-$kind" "$mnt/lie-$kind"
    done
fi

if is_double; then
    begin "Ctrl-C ends a reader that waits, and unmount does not wait"
    # The wait for the node must not end by itself meanwhile.
    volume_down
    node_mount --fetch-timeout 600
    publish_file slow 3
    wait_for 20 test -e "$mnt/slow"
    control POST faults '{"command":"block/get","kind":"hang"}'
    # Bash has what it starts in the background ignore Ctrl-C.
    env --default-signal=INT cat "$mnt/slow" >/dev/null 2>&1 &
    reader=$!
    sleep 1
    ! process_gone "$reader" || fail "the reader does not wait"
    within 5 ls "$mnt" >/dev/null || fail "ls waits too"
    kill -INT "$reader"
    wait_for 5 process_gone "$reader" || fail "the reader waits on"
    status=0
    wait "$reader" || status=$?
    same "how the reader ended" $((128 + 2)) "$status"
    within 20 "$registryfs" unmount "$mnt" || fail "unmount waits"
    control DELETE faults
else
    volume_down
    begin "the node's repository is whole"
    rpc repo/verify >"$work/verify" || fail "$(tail -n 1 "$work/verify")"
fi
begin "check of both state directories is clean"
volume_check
state=$work/state
volume_check
finish
