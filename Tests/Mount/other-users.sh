#!/usr/bin/env bash
# Other users of the machine: what they mount, listen at and leave behind as root's commands meet it,
# what another user sees of root's mount, and volumes that do not answer beside one that does.
source "$(dirname "$0")/lib.sh"

nobody=65534
as_nobody=(setpriv --reuid=$nobody --regid=$nobody --clear-groups env HOME=/tmp)
# Another user must be able to run the program, wherever the tree is.
cp "$registryfs" "$work/registryfs"
hostile() { exec python3 "$here/hostile.py" "$@"; } # only in the background
# start FILE COMMAND...: in the background, once it has said a line
start() {
    local output=$1
    shift
    "$@" >"$output" 2>&1 &
    background+=("$!")
    wait_for 20 test -s "$output" || fail "$*: it said nothing"
}
# hostile_mount USER STATE POINT, and its end: umount(8) would wait for an answer of who serves it.
declare -A servers
hostile_mount() {
    mkdir -p "$3"
    start "$work/mount.${3##*/}" hostile mount "$2" "$3" "$1"
    grep -q mounted "$work/mount.${3##*/}" || fail "$(<"$work/mount.${3##*/}")"
    servers[$3]=${background[-1]}
}
hostile_unmount() {
    kill "${servers[$1]}"
    wait "${servers[$1]}" || :
    umount "$1"
}
# runs STATUS COMMAND...: to its end, standard output in $work/output, standard error in $work/error
runs() {
    local wanted=$1 status=0
    shift
    timeout 60 "$@" >"$work/output" 2>"$work/error" </dev/null || status=$?
    ((status != 124)) || fail "$*: it did not end"
    if [[ $wanted == fails ]]; then
        ((status > 0 && status < 124)) || fail "$*: it ended with status $status"
    else
        same "status of $*: $(<"$work/error")" "$wanted" "$status"
    fi
}
says() { # says WHAT: in either output
    grep -qE -- "$1" "$work/output" "$work/error" ||
        fail "nothing of '$1': $(cat "$work/output" "$work/error")"
}
harmless() { # no byte that a terminal obeys; C1 controls are c2 80 to c2 9f in UTF-8
    ! LC_ALL=C grep -qaP '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]' "$work/output" "$work/error" ||
        fail "escape sequences reach the terminal: $(od -c "$work/output" "$work/error" | head -n 3)"
}
everything_of() { # names, kinds, owners, times and content of a tree
    find "$1" -printf '%p %y %u %s %T@ %C@ %l\n' | sort
    find "$1" -type f -print0 | sort -z | xargs -0r sha256sum
}

volume_up
echo content >"$mnt/file"
cid=$("$registryfs" cid "$mnt/file")
missing=bafkreia7tzxs33fcfgtfvvyc5qz6tkrarhzhqxgmuxwhtc6yxqm6vmr4ie

begin "another user's mount: root's commands touch nothing of it, and go on"
theirs=$work/theirs
echo precious >"$work/precious"
"${as_nobody[@]}" true
mkdir -p "$theirs/state"
touch "$theirs/state/manifest.sqlite"
for name in lock registryfs.log manifest.redo manifest.sqlite-wal manifest.sqlite.reserve; do
    ln -s "$work/precious" "$theirs/state/$name"
done
chown -hR $nobody:$nobody "$theirs"
: >"$work/visits"
chmod 666 "$work/visits"
start "$work/listening" "${as_nobody[@]}" python3 "$here/hostile.py" daemon "$theirs/state" escapes "$work/visits"
hostile_mount $nobody "$theirs/state" "$theirs/mnt"
before=$(everything_of "$theirs/state")
runs 1 "$registryfs" block $missing
runs 1 "$registryfs" export-car $missing -o "$work/archive.car"
runs 0 "$registryfs" block "$cid"
same "the block of the healthy volume" content "$(<"$work/output")"
runs 0 "$registryfs" export-car "$mnt/file" -o "$work/archive.car"
runs 1 "$registryfs" sync --timeout 1
says "has no node" # and not that more than one is mounted
runs 0 "$registryfs" status
harmless
says "belongs to user $nobody"
! grep -A3 -F "$theirs/mnt" "$work/output" | grep -q "unmount" || fail "it advises to unmount what may be alive"
runs 0 "$registryfs" status --json
same "mounts told" 2 "$(jq '.mounts | length' "$work/output")"
for command in status cid inspect unmount "export-car -o -"; do
    # shellcheck disable=SC2086
    runs 1 "$registryfs" $command "$theirs/mnt"
    says "belongs to user $nobody"
done
runs 1 "$registryfs" mount --state-dir "$work/state-2" "$theirs/mnt"
runs 1 "$registryfs" mount --state-dir "$theirs/mnt/state" "$work/mnt"
same "what the user has" "$before" "$(everything_of "$theirs/state")"
same "the target of the symlinks" precious "$(<"$work/precious")"
same "who came to the user's socket" "" "$(<"$work/visits")"

begin "root opens no state directory of another user"
mkdir -p "$work/other"
for command in "mount $work/other" "mount --foreground $work/other" check "check --repair" "cid /" "block $cid" \
    "inspect /" "export-car / -o -"; do
    # shellcheck disable=SC2086
    runs fails "$registryfs" ${command%% *} --state-dir "$theirs/state" ${command#"${command%% *}"}
    says "belongs to user $nobody"
done
same "what the user has" "$before" "$(everything_of "$theirs/state")"
same "the target of the symlinks" precious "$(<"$work/precious")"
same "who came to the user's socket" "" "$(<"$work/visits")"

begin "a symlink in root's own state directory is refused, and its target stays"
volume_down
for name in lock registryfs.log manifest.redo manifest.sqlite manifest.sqlite-wal manifest.sqlite-shm \
    manifest.sqlite.reserve objects cache; do
    [[ ! -e $state/$name ]] || mv "$state/$name" "$work/aside"
    ln -s "$work/precious" "$state/$name"
    runs 1 "$registryfs" mount --state-dir "$state" "$mnt"
    says "$state/$name is a symlink"
    [[ $name == registryfs.log ]] || runs 2 "$registryfs" check --state-dir "$state"
    rm "$state/$name"
    [[ ! -e $work/aside ]] || mv "$work/aside" "$state/$name"
    same "the target of $name" precious "$(<"$work/precious")"
done
chmod o+w "$state"
runs 1 "$registryfs" mount --state-dir "$state" "$mnt"
says "$state can be written by every user"
chmod o-w "$state"

begin "a state directory behind a symlink goes on working"
ln -s "$state" "$work/link"
runs 0 "$registryfs" check --state-dir "$work/link"
"$registryfs" mount --state-dir "$work/link" "$mnt"
runs 0 "$registryfs" block --state-dir "$work/link" "$cid"
same "the block" content "$(<"$work/output")"
runs 0 "$registryfs" status "$mnt"

begin "another user sees whose a live mount is, and no advice to unmount it"
runs 0 "${as_nobody[@]}" "$work/registryfs" status
says "belongs to (another user|root)"
! grep -q "unmount" "$work/output" "$work/error" || fail "it advises to unmount what is alive"
runs 1 "${as_nobody[@]}" "$work/registryfs" status "$mnt"
runs 0 "$registryfs" status "$mnt"

begin "who listens is root or the caller"
false_state=$work/false
mkdir -m 777 "$false_state"
touch "$false_state/manifest.sqlite"
start "$work/listening-2" "${as_nobody[@]}" python3 "$here/hostile.py" daemon "$false_state" escapes "$work/visits"
chmod 755 "$false_state"
for command in status cid inspect block export-car; do
    arguments=()
    case $command in
    status) hostile_mount 0 "$false_state" "$work/false-mnt" && arguments=("$work/false-mnt") ;;
    cid | inspect) arguments=(--state-dir "$false_state" /) ;;
    block) arguments=(--state-dir "$false_state" "$cid") ;;
    export-car) arguments=(--state-dir "$false_state" -o - "$cid") ;;
    esac
    runs 1 "$registryfs" $command "${arguments[@]}"
    says "belongs to user $nobody"
done
# The name of the socket says nothing of who listens there.
chown 0:0 "$false_state/control.sock"
chmod 600 "$false_state/control.sock"
for command in cid inspect; do
    runs 1 "$registryfs" $command --state-dir "$false_state" /
    says "another user listens"
done
runs 1 "$registryfs" status "$work/false-mnt"
harmless

begin "what a daemon says is escaped, and what it sends is verified"
# Of root's own, as the worst that a daemon can become.
for mode in escapes blocks endless drip; do
    mkdir "$work/$mode" "$work/$mode-mnt"
    touch "$work/$mode/manifest.sqlite"
    start "$work/listening-$mode" hostile daemon "$work/$mode" "$mode" "$work/visits"
    hostile_mount 0 "$work/$mode" "$work/$mode-mnt"
done
runs 0 "$registryfs" status "$work/escapes-mnt"
harmless
runs 0 "$registryfs" status --json "$work/escapes-mnt"
harmless
jq -e '.mounts[0].profile | contains("\u009b31m")' "$work/output" >/dev/null || fail "JSON tells another text"
for command in cid inspect "export-car -o -"; do
    # shellcheck disable=SC2086
    runs 1 "$registryfs" $command "$work/escapes-mnt/file"
    harmless
done
runs 1 "$registryfs" block --state-dir "$work/blocks" $missing
same "what block wrote" "" "$(<"$work/output")"
runs 1 "$registryfs" export-car --state-dir "$work/blocks" -o - $missing
same "what export-car wrote" "" "$(<"$work/output")"

begin "an answer without an end holds status for a while only"
for mode in endless drip; do
    { timeout 100 "$registryfs" status "$work/$mode-mnt" >"$work/output-$mode" 2>&1 || echo "$?" >"$work/status-$mode"; } &
done
wait %% || :
for mode in endless drip; do
    wait_for 100 test -s "$work/status-$mode" || fail "$mode: no failure"
    same "status of status, $mode" 1 "$(<"$work/status-$mode")"
done
for at in "$work"/{escapes,blocks,endless,drip,false}-mnt "$theirs/mnt"; do hostile_unmount "$at"; done

begin "a dead neighbour is passed over and named"
mkdir "$work/neighbour-mnt"
"$registryfs" mount --state-dir "$work/neighbour" "$work/neighbour-mnt"
neighbour=$("$registryfs" status --json "$work/neighbour-mnt" | jq -e '.mounts[0].pid')
kill -9 "$neighbour"
wait_for 10 process_gone "$neighbour" || fail "the neighbour's daemon stays"
rm -r "$work/neighbour"
runs 0 "$registryfs" export-car "$mnt/file" -o "$work/archive.car"
runs 0 "$registryfs" block "$cid"
same "the block" content "$(<"$work/output")"
runs 1 "$registryfs" block $missing
says "$work/neighbour"
[[ ! -e $work/neighbour ]] || fail "block made the state directory again"
runs 1 "$registryfs" status "$work/neighbour-mnt"
says "registryfs unmount $work/neighbour-mnt"
"$registryfs" unmount "$work/neighbour-mnt" 2>"$work/error"
volume_down
volume_check
finish
