# The common part of the mount tests. A test sources this file and gets a state directory, a mount
# point and a clean-up of its own; it names each of its cases with `begin`, and ends with `finish`.
# A case that fails ends its script: `not ok NAME: why` is the last thing that it prints.
#
# REGISTRYFS            the executable under test (default: the release build of this tree)
# REGISTRYFS_TEST_DIR   where the temporary directories go; must be on a real disk
# REGISTRYFS_TEST_QUICK set: smaller amounts, for a look while working
# REGISTRYFS_TEST_SEED  repeats the random choices of a run that told this seed
#
# A script runs in namespaces of its own, so it meets nothing of what else runs on the machine: no
# mounts (an `unshare --mount` elsewhere would take ours along, and keep them in use), no semaphores
# and shared memory of other programs (dbench and podman give theirs fixed names), and all ports are
# free. How fast it goes is the machine's: limits of time are against hanging alone.
set -euo pipefail
if [[ -z ${REGISTRYFS_TEST_APART:-} ]]; then
    kinds=(--mount --ipc)
    # A node of somebody else's is reached through the machine's network.
    [[ -n ${REGISTRYFS_TEST_KUBO:-} ]] || kinds+=(--net)
    REGISTRYFS_TEST_APART=1 exec unshare "${kinds[@]}" --propagation private "$BASH" "$0" "$@"
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
source "$top/Mount/common.sh"
patience=6
registryfs=${REGISTRYFS:-$top/.build/release/registryfs}
[[ -x $registryfs ]] || die "no $registryfs: build it first (swift build -c release)"
quick=${REGISTRYFS_TEST_QUICK:-}
if [[ $REGISTRYFS_TEST_APART == 1 ]]; then
    # A script that runs itself once more stays where it is.
    export REGISTRYFS_TEST_APART=inside
    # The copies of others' mounts would keep their daemons alive.
    awk '$0 ~ / - fuse\.registryfs / { print $5 }' /proc/self/mountinfo | tac |
        while read -r at; do umount -l "$at" 2>/dev/null || :; done
    [[ ! -d /dev/shm ]] || mount -t tmpfs -o mode=1777 none /dev/shm
    [[ -n ${REGISTRYFS_TEST_KUBO:-} ]] || ip link set lo up
fi

work=$(mktemp -d "${REGISTRYFS_TEST_DIR:-/var/tmp}/registryfs-test.XXXXXX")
chmod 755 "$work"
state=$work/state
mnt=$work/mnt
mkdir "$state" "$mnt"
cd "$work" # what programs leave behind goes with it
caller_home=$HOME
export HOME=$work # no skopeo cache, no credentials and no configuration of the caller

current="set up"
why=""
begin() {
    [[ $current == "set up" ]] || echo "ok $current"
    current=$1$mode_name
}
fail() {
    why=$*
    exit 1
}
finish() {
    echo "ok $current"
    current=""
    exit 0
}
# For scripts whose cases do not depend on each other: a failed one does not end the script.
failed=0
result() { # result NAME REASON: an empty reason means that the case passed
    if [[ -z $2 ]]; then
        echo "ok $1"
    else
        echo "not ok $1: $2"
        failed=1
    fi
}

background=()
clean_up() {
    local status=$? pid at
    trap - EXIT INT TERM
    set +e
    cd /
    if [[ -n $current ]] && { ((status != 0)) || [[ $current != "set up" ]]; }; then
        echo "not ok $current: ${why:-ended with status $status, see above}${seed:+ (seed $seed)}"
        ((status)) || status=1
        tail -n 20 "$work"/state*/registryfs.log >&2 2>/dev/null
    fi
    ((failed)) && status=1
    for pid in "${background[@]}"; do
        # One that is stopped ends when it goes on.
        kill "$pid" 2>/dev/null && { kill -CONT "$pid"; wait "$pid"; } 2>/dev/null
    done
    for pid in "$work"/*.pid; do
        [[ -e $pid ]] && stop_registry "$pid"
    done
    # Deepest mount first; a mount that does not go in time is cut off.
    awk -v under="$work/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | tac |
        while read -r at; do
            timeout 30 umount "$at" 2>/dev/null || timeout 30 "$registryfs" unmount "$at" \
                2>/dev/null || umount -l "$at"
        done
    rm -rf --one-file-system "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
trap 'why="line $LINENO: $BASH_COMMAND"' ERR
set -E

# within SECONDS COMMAND...: ends a command that hangs, with status 124; `patience` times as late.
within() { timeout "$(($1 * patience))" "${@:2}"; }
# For a command that has to end, well or not at all.
in_time() { within 60 "$@" || fail "$* ended with status $?"; }

# with_seed: from here on RANDOM follows a seed, which is told. Only in the script's own shell: bash
# gives each subshell another one.
seed=""
with_seed() {
    seed=${REGISTRYFS_TEST_SEED:-$((SRANDOM % 1000000))}
    RANDOM=$seed
    say "REGISTRYFS_TEST_SEED=$seed repeats the random choices"
}
# pause LEAST MOST: a random number of milliseconds.
pause() {
    local milliseconds=$(($1 + RANDOM % ($2 - $1 + 1)))
    sleep "$((milliseconds / 1000)).$(printf %03d $((milliseconds % 1000)))"
}

same() { # same WHAT EXPECTED FOUND
    [[ $2 == "$3" ]] || fail "$1: expected $2, found $3"
}

# excerpt PATTERN FILE: the first lines of a log that say what went wrong, or its last ones.
excerpt() {
    local found
    found=$(sed -nE "/$1/p" "$2" | head -n 3)
    tr '\n' ' ' <<<"${found:-$(tail -n 3 "$2")}"
}

# in_all_modes [VARIABLE=VALUE...]: for a script that is to run in each way that reads and requests
# can come: it runs itself once more for each that is not the default, with such variables, and names
# its cases so.
mode_options=()
mode_name=""
in_all_modes() {
    local mode
    case ${REGISTRYFS_TEST_MODE:-} in
    no-passthrough | no-io-uring)
        mode_options=("--$REGISTRYFS_TEST_MODE")
        mode_name=", ${REGISTRYFS_TEST_MODE/no-/without }"
        return
        ;;
    esac
    for mode in no-passthrough no-io-uring; do
        env REGISTRYFS_TEST_MODE="$mode" "$@" "$here/$(basename "$0")" || failed=1
    done
}
# Mounts can have requests come through io_uring, whatever the machine's administrator has chosen.
volume_up() { # volume_up [OPTION...]: mounts $state at $mnt
    with_ring_switch Y "$registryfs" mount --state-dir "$state" "${mode_options[@]}" "$@" "$mnt"
    is_mounted "$mnt" || fail "mount returned, and $mnt is not mounted"
}
volume_down() {
    "$registryfs" unmount "$mnt"
    ! is_mounted "$mnt" || fail "unmount returned, and $mnt is still mounted"
}
volume_again() {
    volume_down
    volume_up "$@"
}
volume_check() {
    local output
    output=$("$registryfs" check --state-dir "$state" 2>&1) ||
        fail "check is not clean: $(tail -n 3 <<<"$output" | tr '\n' ' ')"
}
daemon_pid() {
    "$registryfs" status --json "$mnt" | jq -e '.mounts[0].pid'
}
daemon_kill() { # kill -9, and wait until the process is gone
    local pid
    pid=$(daemon_pid)
    kill -9 "$pid"
    wait_for 10 process_gone "$pid" || fail "the daemon ($pid) outlives kill -9"
}
# version_of_state [NEW]: tells the version that the manifest has, or sets another one.
version_of_state() {
    python3 - "$state/manifest.sqlite" "${1:-}" <<'PYTHON'
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
if sys.argv[2]:
    database.execute("PRAGMA user_version = %d" % int(sys.argv[2]))
    database.commit()
print(database.execute("PRAGMA user_version").fetchone()[0])
database.close()
PYTHON
}
state_megabytes() { du -sm "$state" | cut -f1; }

# A port that nothing else has, and nothing else gets: in a network of its own a script counts them
# below those that the kernel gives to connections.
free_port() {
    if [[ -n ${REGISTRYFS_TEST_KUBO:-} ]]; then
        python3 -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
        return
    fi
    echo port >>"$work/ports"
    echo $((20000 + $(wc -l <"$work/ports")))
}
registry_up() { # registry_up [ROOT]: sets $port
    port=$(free_port)
    start_registry "${1:-$mnt}" "$port" "$work/registry.log" "$work/registry.pid"
}
registry_down() { stop_registry "$work/registry.pid"; }

make_image() { "$top/Mount/make-image" "$@"; }
push() { # push LAYOUT NAME:TAG
    skopeo_copy "oci:$1" "docker://127.0.0.1:$port/$2" ||
        fail "push of $2: $(tail -n 2 "$work/registry.log")"
}
# pusher ROUND LAYERS BYTES NAME: pushes images to NAME as long as the registry takes them, each noted in
# $work/acknowledged once the registry acknowledged it.
pusher() {
    local index digest
    for index in 1 2 3 4 5 6 7 8; do
        digest=$(make_image "$work/images/$1-$index" --layers "$2" --bytes "$3" \
            --seed $((seed % 10000 + $1 * 100 + index)))
        skopeo_copy "oci:$work/images/$1-$index" "docker://127.0.0.1:$port/$4/$1:$index" \
            >/dev/null 2>&1 || return 0
        echo "$4/$1:$index $digest" >>"$work/acknowledged"
        rm -r "$work/images/$1-$index"
    done
}
# pull NAME:TAG DIGEST: everything comes out of the registry, and every blob has its digest's bytes.
pull() {
    local out=$work/pulled
    rm -rf "$out"
    skopeo_copy "docker://127.0.0.1:$port/$1" "dir:$out" ||
        fail "pull of $1: $(tail -n 2 "$work/registry.log")"
    same "digest of the pulled $1" "$2" "sha256:$(sha256sum <"$out/manifest.json" | cut -d' ' -f1)"
    (cd "$out" && for blob in *; do
        [[ $blob == manifest.json || $blob == version ]] || echo "$blob  $blob"
    done | sha256sum --quiet -c -) || fail "blobs of the pulled $1 have the wrong bytes"
    same "blobs of the pulled $1" \
        "$(jq '[.config.digest, .layers[].digest] | unique | length' "$out/manifest.json")" \
        "$(find "$out" -type f ! -name manifest.json ! -name version | wc -l)"
    rm -rf "$out"
}
