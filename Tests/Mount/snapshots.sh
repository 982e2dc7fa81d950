#!/usr/bin/env bash
# Snapshots by the commands, on a mount and without one: made, listed, compared, restored, pruned, exported and
# deleted. What differs, and what a restore brings, is what rsync sees.
source "$(dirname "$0")/lib.sh"

snapshot() { "$registryfs" snapshot "$@"; }
# rsync_view FROM TO: what has to change in TO to be as FROM, as `snapshot diff` writes it. By content: times and modes are
# in no CID.
rsync_view() {
    rsync -rlc --delete --dry-run --out-format='%i %n' "$1/" "$2/" >"$work/rsync"
    sed -E -e 's/^\*deleting +/- /' -e 's/^[^ ]+\+{9} /+ /' -e '/^[-+] /! s/^[^ ]+ /M /' \
        "$work/rsync" | LC_ALL=C sort
}
# is_as DIRECTORY: the mount reads as a copy does.
is_as() {
    rsync_view "$mnt" "$1" >"$work/view"
    [[ ! -s $work/view ]] || fail "it is not as $1: $(head -n 3 "$work/view" | tr '\n' ' ')"
}
copy() { # copy NAME: keeps the mount as it is now, for comparing
    mkdir "$work/$1"
    rsync -rl "$mnt/" "$work/$1/"
}
refused() { # refused WORDS COMMAND...
    local words=$1 output
    shift
    ! output=$("$@" 2>&1) || fail "$* succeeded"
    [[ $output == *"$words"* ]] || fail "$*: expected '$words', found: $output"
    same "lines of what it says" 1 "$(wc -l <<<"$output")"
}
root() { "$registryfs" cid "$mnt"; }
count() { snapshot list --json | jq '.snapshots | length'; }
files=2000 large=$((64 << 20))
[[ -z $quick ]] || files=200

begin "create gives the tree as it is now a name"
volume_up
mkdir -p "$mnt/deep/er/directory" "$mnt/wide" "$mnt/empty" "$mnt/goes/below"
for ((number = 0; number < files; number++)); do
    echo "$number" >"$mnt/wide/a-longer-name-of-a-file-that-fills-a-directory-node-$number"
done
head -c "$large" /dev/urandom >"$mnt/deep/large"
echo "with spaces" >"$mnt/deep/er/a name"
ln -s ../deep "$mnt/empty/link"
echo goes >"$mnt/goes/below/file"
echo file >"$mnt/kind"
copy one
made=$(snapshot create one --message "the first one")
same "what is told" "one $(root)" "$made"
refused "one" snapshot create one
same "snapshots" 1 "$(count)"

begin "list and show tell of it"
snapshot list >"$work/list"
grep -qE "^one +20[0-9-]+T[0-9:.]+Z +[0-9.]+ MiB +the first one$" "$work/list" || fail "list: $(<"$work/list")"
same "what show tells" "one $(root) the first one false" \
    "$(snapshot show one --json --at "$mnt" | jq -r '"\(.name) \(.root) \(.message) \(.automatic)"')"
snapshot show one | grep -q "root CID *$(root)" || fail "show: $(snapshot show one)"
refused "nobody" snapshot show nobody
same "what status tells" "1 one" \
    "$("$registryfs" status --json "$mnt" | jq -r '.mounts[0].snapshots | "\(.count) \(.newest)"')"

begin "it is there to read, and stays as it is"
view=$mnt/.registryfs/snapshots/one
rsync_view "$view" "$work/one" >"$work/view"
[[ ! -s $work/view ]] || fail "it reads otherwise: $(head -n 3 "$work/view" | tr '\n' ' ')"
! touch "$view/new" 2>/dev/null || fail "a snapshot was changed"
[[ -z $(find "$mnt" -name .registryfs) ]] || fail "whoever walks the tree meets the snapshots"

begin "diff tells what rsync sees"
same "without a change" "" "$(snapshot diff one .)"
echo new >"$mnt/wide/new"
echo changed >"$mnt/wide/a-longer-name-of-a-file-that-fills-a-directory-node-17"
rm "$mnt/wide/a-longer-name-of-a-file-that-fills-a-directory-node-100"
mkdir -p "$mnt/deep/added/below"
echo 1 >"$mnt/deep/added/below/file"
ln -s nowhere "$mnt/deep/added/link"
ln -sfn ../wide "$mnt/empty/link"
rm -r "$mnt/goes"
# In place: what the snapshot has must stay.
printf changed | dd of="$mnt/deep/large" bs=1 seek=$((large / 2)) conv=notrunc status=none
rsync_view "$mnt" "$work/one" >"$work/expected"
snapshot diff one . >"$work/diff"
diff <(LC_ALL=C sort "$work/diff") "$work/expected" >"$work/difference" ||
    fail "diff tells otherwise: $(head -n 5 "$work/difference" | tr '\n' ' ')"
[[ $(wc -l <"$work/diff") -eq 12 ]] || fail "$(wc -l <"$work/diff") lines: $(<"$work/diff")"
LC_ALL=C sort -c <(sed 's/^. //; s,/,\x01,g' "$work/diff") || fail "they are not in the order of their bytes"
copy two
snapshot create two >"$work/made"
cmp <(snapshot diff one two) "$work/diff" || fail "of two snapshots it tells otherwise"
cmp <(snapshot diff one "$(root)") "$work/diff" || fail "of a CID it tells otherwise"
snapshot diff two one | sed -e 's/^+ /_ /' -e 's/^- /+ /' -e 's/^_ /- /' | cmp - "$work/diff" || fail "backwards it tells otherwise"
same "in JSON" "$(wc -l <"$work/diff")" "$(snapshot diff one two --json | jq -s 'map(.path) | length')"
refused "nobody" snapshot diff one nobody

begin "restore brings what differs, and touches nothing else"
echo more >"$mnt/more"
rm "$mnt/kind"
mkdir "$mnt/kind"
echo below >"$mnt/kind/file"
untouched=$mnt/wide/a-longer-name-of-a-file-that-fills-a-directory-node-3
inode=$(stat -c %i "$untouched")
exec 5<"$mnt/wide/new"
snapshot restore one >"$work/restored"
grep -qE "^[0-9]+ added, [0-9]+ changed, [0-9]+ removed$" "$work/restored" || fail "$(<"$work/restored")"
is_as "$work/one"
same "root CID" "${made#one }" "$(root)"
same "inode of what did not change" "$inode" "$(stat -c %i "$untouched")"
same "a file that was open" new "$(cat <&5)"
exec 5<&-
same "with nothing to do" "0 added, 0 changed, 0 removed" "$(snapshot restore one)"
snapshot restore two >"$work/restored"
is_as "$work/two"

begin "restore of a path brings that path alone"
echo changed >"$mnt/deep/er/a name"
echo changed >"$mnt/kind"
snapshot restore two "$mnt/deep/er/a name" >"$work/restored"
same "the file" "with spaces" "$(<"$mnt/deep/er/a name")"
same "another" changed "$(<"$mnt/kind")"
snapshot restore two kind --json | jq -e '.changed == 1' >"$work/restored"
is_as "$work/two"
# What the snapshot has not goes, and what went comes back with all that is below.
snapshot restore one "$mnt/goes" >"$work/restored"
same "a file that went" goes "$(<"$mnt/goes/below/file")"
snapshot restore two "$mnt/goes" >"$work/restored"
[[ ! -e $mnt/goes ]] || fail "what the snapshot has not is still there"
refused "no/where" snapshot restore two "$mnt/no/where"
is_as "$work/two"

begin "the tree and its snapshots survive kill -9 at any moment of a create, a restore and a delete"
with_seed
for round in 1 2 3 4 5 6; do
    echo "$round" >"$mnt/round"
    snapshot create "kill-$round" >"$work/made" 2>&1 || :
    for command in "create more-$round" "restore one" "delete kill-$round"; do
        snapshot $command >"$work/killed" 2>&1 &
        job=$!
        pause 0 60
        daemon_kill
        wait "$job" || :
        volume_up
        for name in $(snapshot list --json | jq -r '.snapshots[].name'); do
            snapshot diff "$name" . >"$work/diff" || fail "$name cannot be compared after kill -9"
        done
    done
    snapshot restore one >"$work/restored"
    is_as "$work/one"
done
for name in $(snapshot list --json | jq -r '.snapshots[].name'); do
    [[ $name == one || $name == two ]] || snapshot delete "$name" >"$work/deleted"
done
volume_down
volume_check
volume_up

begin "delete frees what only the snapshot has"
snapshot restore one >"$work/restored"
is_freed() { (($(state_megabytes) < before - 40)); }
snapshot delete two >"$work/deleted"
same "what is told" two "$(<"$work/deleted")"
rm "$mnt/deep/large"
sync -f "$mnt"
sleep 2
before=$(state_megabytes)
((before >= large >> 20)) || fail "the snapshot does not keep what is removed: $before MiB"
same "what it keeps" "$(sha256sum <"$work/one/deep/large")" "$(sha256sum <"$view/deep/large")"
refused "nobody" snapshot delete one nobody
same "snapshots" 1 "$(count)"
snapshot delete one >"$work/deleted"
wait_for 30 is_freed || fail "nothing is freed: $before MiB before, $(state_megabytes) now"
same "a list of none" "no snapshots" "$(snapshot list)"

begin "export writes a CAR file that imports to the same CID"
snapshot create out >"$work/made"
snapshot export out -o "$work/out.car"
echo changed >"$mnt/kind"
same "the CID" "$(snapshot show out --json | jq -r .root)" \
    "$("$registryfs" import "$work/out.car" "$mnt/imported")"
cmp <(snapshot export out -o -) "$work/out.car" || fail "on standard output it is another"
rm -r "$mnt/imported"

begin "prune deletes what no rule keeps"
for number in 1 2 3 4; do
    echo "$number" >"$mnt/kind"
    snapshot create "number-$number" >"$work/made"
done
same "what would go" "out number-1 number-2" \
    "$(snapshot prune --keep-last 2 --dry-run | tr '\n' ' ' | sed 's/ $//')"
same "snapshots" 5 "$(count)"
same "of those that were made by hand" "" "$(snapshot prune --keep-last 1 --automatic-only)"
same "what goes" "3 2" \
    "$(snapshot prune --keep-last 2 --keep-daily 1 --json | jq -r '"\(.deleted | length) \(.kept)"')"
same "what stays" "number-3 number-4" "$(snapshot list --json | jq -r '[.snapshots[].name] | join(" ")')"
refused "--keep-last" snapshot prune
volume_down
volume_check

begin "all of it works on a volume that is not mounted"
offline=(--state-dir "$state")
same "snapshots" 2 "$(snapshot list --json "${offline[@]}" | jq '.snapshots | length')"
same "show" number-3 "$(snapshot show number-3 --json "${offline[@]}" | jq -r .name)"
same "diff" "M kind" "$(snapshot diff number-3 number-4 "${offline[@]}")"
same "diff of the live tree" "M kind" "$(snapshot diff number-3 . "${offline[@]}")"
same "restore" "0 added, 1 changed, 0 removed" "$(snapshot restore number-3 /kind "${offline[@]}")"
same "diff after it" "" "$(snapshot diff number-3 . "${offline[@]}")"
snapshot create offline "${offline[@]}" >"$work/made"
same "create" "offline $("$registryfs" cid "${offline[@]}" /)" "$(<"$work/made")"
snapshot export offline -o "$work/offline.car" "${offline[@]}"
[[ -s $work/offline.car ]] || fail "nothing was exported"
same "delete" number-4 "$(snapshot delete number-4 "${offline[@]}")"
same "prune" "number-3" "$(snapshot prune --keep-last 1 "${offline[@]}")"
volume_check

begin "--snapshot-every makes one each time that the tree has changed, and prunes its own"
automatic() { snapshot list --json | jq -r '.snapshots[] | select(.automatic) | .name'; }
has_automatic() { [[ $(automatic | wc -l) -eq $1 ]]; }
volume_up --snapshot-every 1s --snapshot-keep-last 2
wait_for 20 has_automatic 1 || fail "none was made: $("$registryfs" status "$mnt")"
first=$(automatic)
[[ $first =~ ^auto-20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z$ ]] || fail "its name is $first"
sleep 3
same "without a change" "$first" "$(automatic)"
is_newest_of_tree() { [[ $(snapshot list --json | jq -r '.snapshots[-1].root') == "$(root)" ]]; }
for number in 1 2 3; do
    echo "$number" >"$mnt/every"
    wait_for 20 is_newest_of_tree || fail "none was made of change $number"
done
wait_for 20 has_automatic 2 || fail "they are not pruned: $(automatic)"
[[ $(automatic) != *"$first"* ]] || fail "the oldest is still there"
same "one that was made by hand" offline "$(snapshot show offline --json | jq -r .name)"
same "what status tells" "3 1 null" \
    "$("$registryfs" status --json "$mnt" | jq -r '.mounts[0].snapshots | "\(.count) \(.everySeconds) \(.lastError)"')"
[[ $("$registryfs" status --json "$mnt" | jq -r '.mounts[0].snapshots.nextAt') == 20*Z ]] ||
    fail "status does not tell of the next one"

begin "the first one of another mount comes an interval after the last"
volume_again --snapshot-every 1h
echo later >"$mnt/every"
sleep 3
has_automatic 2 || fail "one was made at once"
last=$(snapshot list --json | jq -r '.snapshots[-1].created')
next=$("$registryfs" status --json "$mnt" | jq -r '.mounts[0].snapshots.nextAt')
same "seconds until it" 3600 $(($(date -d "$next" +%s) - $(date -d "$last" +%s)))
volume_down
volume_check
finish
