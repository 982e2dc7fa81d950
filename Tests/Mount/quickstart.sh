#!/usr/bin/env bash
# Mount/quickstart from nothing to a pushed image, a second time, and down again.
source "$(dirname "$0")/lib.sh"

port=$(free_port)
# As many have it: the place is a symlink.
ln -s mnt "$work/link"
quickstart() {
    HOME=$caller_home "$top/Mount/quickstart" --mount-point "$work/link" --state-dir "$state" --port "$port" "$@"
}
# What the person sees: an image, the tree, a link file's digest, and a root CID.
shows_all() {
    grep -qE '^pushed and pulled: .* sha256:[0-9a-f]{64}$' "$1" || fail "no digest: $(tail -n 2 "$1")"
    grep -qE '^sha256:[0-9a-f]{64}$' "$1" || fail "no link file: $(tail -n 2 "$1")"
    grep -qE '^bafy[a-z2-7]{55}$' "$1" || fail "no root CID: $(tail -n 2 "$1")"
    grep -q repositories "$1" || fail "no listing: $(tail -n 2 "$1")"
}

rmdir "$state"
begin "quickstart builds, mounts, pushes and pulls"
quickstart >"$work/first"
shows_all "$work/first"
is_mounted "$mnt" || fail "nothing is mounted"
daemon=$(daemon_pid)

begin "a second run uses what is up, and gives the same root"
quickstart >"$work/second"
shows_all "$work/second"
same "daemon" "$daemon" "$(daemon_pid)"
same "root CID" "$(grep ^bafy "$work/first")" "$(grep ^bafy "$work/second")"

begin "it mends a mount whose daemon died"
kill -9 "$daemon"
wait_for 10 process_gone "$daemon" || fail "the daemon outlives kill -9"
quickstart >"$work/third"
shows_all "$work/third"

begin "down undoes it and keeps the content, until it is purged"
quickstart --down
! is_mounted "$mnt" || fail "still mounted"
! registry_answers "$port" || fail "the registry still answers"
[[ -f $state/manifest.sqlite ]] || fail "the content is gone"
quickstart --down
quickstart --down --purge
[[ ! -e $state ]] || fail "the content is still there"
finish
