#!/usr/bin/env bash
# CAR files go into volumes, mounted or not, and come out of them, also where the content is elsewhere: all or
# nothing, whoever is killed.
source "$(dirname "$0")/lib.sh"
source "$here/trees-lib.sh"

limit_kilobytes=$((150 * 1024))
mebibytes=256 rounds=12
[[ -z $quick ]] || mebibytes=96 rounds=4
car=$work/tree.car

# fresh_state DIRECTORY: a volume without a file.
fresh_state() {
    mkdir -p "$work/at"
    "$registryfs" mount --state-dir "$1" "$work/at"
    "$registryfs" unmount "$work/at"
}
# clean DIRECTORY [WORD]: the check finds nothing wrong, and what it finds has the word.
clean() {
    local output
    output=$("$registryfs" check --state-dir "$1" 2>&1) ||
        fail "check is not clean: $(tail -n 3 <<<"$output" | tr '\n' ' ')"
    [[ $output == *"${2:-}"* ]] || fail "check says nothing of '$2': $output"
}
# peak_of COMMAND...: runs it; its peak of resident memory in kilobytes.
peak_of() {
    python3 - "$@" <<'PYTHON'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PYTHON
}
# whole DIRECTORY PATH: the tree is in a volume that is not mounted; fails where nothing is, and ends the test where
# it is another one.
whole() {
    local found
    found=$("$registryfs" cid --state-dir "$1" "$2" 2>"$work/error") || {
        grep -q "No such file" "$work/error" || fail "cid of $2: $(<"$work/error")"
        return 1
    }
    same "CID of $2" "$root" "$found"
}

with_seed
begin "a tree of $mebibytes MiB and 3,000 files becomes a CAR file"
volume_up
mkdir -p "$mnt/wide" "$mnt/deep/below"
for number in {1..3000}; do echo "$number" >"$mnt/wide/a-longer-name-of-a-file-$number"; done
head -c $((mebibytes << 20)) /dev/zero | openssl enc -chacha20 -K "$(printf '%064d' 7)" \
    -iv "$(printf '%032d' 0)" | split -b 64M - "$mnt/deep/below/part-"
ln -s below/part-aa "$mnt/deep/link"
root=$("$registryfs" cid "$mnt")
"$registryfs" export-car -o "$car" # the one mounted volume
same "its root" "$root" "$("$registryfs" export-car --json -o "$work/again.car" "$mnt" | jq -r .cid)"
cmp "$car" "$work/again.car"
rm "$work/again.car"
listing "$mnt" >"$work/listing"
volume_down

begin "into a volume that is not mounted, with a bound on memory"
offline=$work/state-offline
fresh_state "$offline"
kilobytes=$(peak_of "$registryfs" import-car "$car" --state-dir "$offline")
echo "peak of the command's resident memory: $((kilobytes / 1024)) MB" >&2
((kilobytes < limit_kilobytes)) || fail "$((kilobytes / 1024)) MB resident"
whole "$offline" /tree || fail "there is no tree"
clean "$offline"
"$registryfs" export-car /tree --state-dir "$offline" -o "$work/again.car"
cmp "$car" "$work/again.car"
rm "$work/again.car"
refused "File exists" "$registryfs" import-car "$car" --state-dir "$offline"

begin "it needs nobody else: all reads as it was"
tree_up offline
diff <(listing "$at/tree") "$work/listing" || fail "not all reads as it was"
same "the symlink" below/part-aa "$(readlink "$at/tree/deep/link")"
same "remote objects" 0 "$(status_of .remoteObjects)"
tree_down

begin "into a mount: the one that is mounted, one that is named, at a path"
rm -rf "$state"
volume_up
mkdir "$mnt/images"
same "the CID told" "$root" "$("$registryfs" import-car "$car")"
"$registryfs" import-car "$car" "$mnt" --at images/first --json >"$work/report"
same "the report" "$root $(wc -l <"$work/listing") 0" \
    "$(jq -r '"\(.cids[0]) \(.files) \(.convertedFiles)"' "$work/report")"
same "the CID told by a daemon of a state directory" "$root" \
    "$("$registryfs" import-car "$car" --state-dir "$state" --at images/second)"
diff <(listing "$mnt/images/second") "$work/listing" || fail "not all reads as it was"
refused "exclude" "$registryfs" import-car "$car" "$mnt" --state-dir "$state"
refused "read-only" bash -c '"$0" mount --read-only --state-dir "$1" "$2" && "$0" import-car "$3" "$2"
    status=$?; "$0" unmount "$2"; exit "$status"' "$registryfs" "$offline" "$work/at" "$car"

begin "a bar shows how far it is"
script -qec "$registryfs import-car $car $mnt --at bar" "$work/typescript" >"$work/output"
grep -q fetching "$work/typescript" || fail "import-car shows nothing"
script -qec "$registryfs export-car $mnt/bar -o $work/bar.car" "$work/typescript" >"$work/output"
grep -q exporting "$work/typescript" || fail "export-car shows nothing"
cmp "$car" "$work/bar.car"
rm "$work/bar.car"

begin "what is damaged is named with its place, and nothing stays"
size=$(stat -c %s "$car")
head -c $((size / 2)) "$car" >"$work/cut.car"
refused "at byte" "$registryfs" import-car "$work/cut.car" "$mnt"
cp --reflink=auto "$car" "$work/flipped.car"
# Two bytes of the last leaves, of which one at least was another.
printf 'xy' | dd of="$work/flipped.car" bs=1 seek=$((size - 1000000)) conv=notrunc status=none
! cmp -s "$car" "$work/flipped.car" || fail "nothing was changed"
# What is here already would not be taken from the file.
fresh_state "$work/state-flipped"
refused "not the block" "$registryfs" import-car "$work/flipped.car" --state-dir "$work/state-flipped"
refused "$work/flipped.car: at byte" \
    "$registryfs" import "$work/flipped.car" /flipped --state-dir "$work/state-flipped"
clean "$work/state-flipped"
rm "$work/cut.car" "$work/flipped.car"
same "names in the root" "bar images tree" "$(ls "$mnt" | sort | tr '\n' ' ' | sed 's/ $//')"
volume_again
same "names in the root" "bar images tree" "$(ls "$mnt" | sort | tr '\n' ' ' | sed 's/ $//')"
volume_down
volume_check

begin "$rounds times kill -9 of import-car in a volume that is not mounted: all or nothing"
cut=0 killed=$work/state-killed
for round in $(seq "$rounds"); do
    # What is here already would not be fetched.
    rm -rf "$killed"
    fresh_state "$killed"
    "$registryfs" import-car "$car" --state-dir "$killed" >"$work/output" 2>&1 &
    pid=$!
    pause 10 $((mebibytes * 3))
    kill -9 "$pid" 2>/dev/null || :
    wait "$pid" 2>/dev/null || :
    clean "$killed"
    whole "$killed" /tree || cut=$((cut + 1))
    clean "$killed"
done
rm -rf "$killed"
((cut > 0)) || fail "each import was done before it was killed"

begin "$rounds times kill -9 of a daemon that imports: all or nothing"
cut=0
for round in $(seq "$rounds"); do
    rm -rf "$state"
    volume_up
    "$registryfs" import-car "$car" "$mnt" >"$work/output" 2>&1 &
    pid=$!
    pause 10 $((mebibytes * 3))
    if [[ -e $mnt/tree ]]; then
        same "files of what is to be seen" "$(wc -l <"$work/listing")" "$(find "$mnt/tree" -type f | wc -l)"
    fi
    daemon_kill
    wait "$pid" 2>/dev/null || :
    umount -l "$mnt"
    volume_check
    whole "$state" /tree || cut=$((cut + 1))
    volume_check
done
((cut > 0)) || fail "each import was done before the daemon was killed"

begin "a mounted tree that is partly elsewhere is exported whole"
gateway_up first
tree_up part --from "$root" --gateway "$first_url"
same "a file" 17 "$(<"$at/wide/a-longer-name-of-a-file-17")"
cmp "$at/deep/below/part-aa" <(head -c $((64 << 20)) /dev/zero | openssl enc -chacha20 \
    -K "$(printf '%064d' 7)" -iv "$(printf '%032d' 0)") || fail "a part reads as other bytes"
"$registryfs" export-car "$at" -o "$work/part.car"
cmp "$car" "$work/part.car"
"$registryfs" export-car "$root" -o - | cmp - "$car"
echo new >"$at/new"
"$registryfs" export-car "$at" -o "$work/part.car"
rm "$at/new"
tree_down

begin "one that is not mounted is exported from the sources that are named"
part=$work/state-part
rm "$work/part.car"
refused "--gateway, --car or --kubo" "$registryfs" export-car --state-dir "$part" -o "$work/part.car"
[[ ! -e $work/part.car ]] || fail "a failed export leaves a file"
for sources in "--gateway $first_url" "--car $car"; do
    # shellcheck disable=SC2086
    "$registryfs" export-car --state-dir "$part" $sources -o "$work/part.car"
    cmp "$car" "$work/part.car"
    rm "$work/part.car"
done
kubo_double=${registryfs%/*}/kubo-double
[[ -x $kubo_double ]] || die "no $kubo_double: build it first (swift build -c release --build-tests)"
# The node has what a gateway was given.
gateway_up stored --store "$work/blocks"
kill "$stored_pid"
wait_for 10 process_gone "$stored_pid" || fail "the gateway outlives its end"
rpc=127.0.0.1:$(free_port)
setsid "$kubo_double" --port "${rpc#*:}" --store "$work/blocks" --offline >"$work/kubo.log" 2>&1 </dev/null &
background+=("$!")
wait_for 30 grep -q "listens on" "$work/kubo.log" || fail "no node: $(tail -n 3 "$work/kubo.log")"
"$registryfs" export-car "$root" --state-dir "$part" --kubo "$rpc" -o - | cmp - "$car"
clean "$part"

begin "a source that lies spoils no export, and one that vanishes ends it with a word"
gateway_up liar --fault flip
"$registryfs" export-car --state-dir "$part" --gateway "$liar_url" --gateway "$first_url" -o - | cmp - "$car"
refused "cannot be exported" "$registryfs" export-car "$root" --state-dir "$part" --gateway "$liar_url" -o "$work/part.car"
kill "$first_pid"
refused "cannot be exported" "$registryfs" export-car "$root" --state-dir "$part" --gateway "$first_url" \
    -o "$work/part.car"
[[ ! -e $work/part.car ]] || fail "a failed export leaves a file"

begin "a tree is grafted into a volume that is not mounted, and read from its source later"
same "the CID told" "$root" "$("$registryfs" import "$root" /lazy --state-dir "$offline" --car "$car")"
tree_up offline --car "$car"
diff <(listing "$at/lazy") "$work/listing" || fail "not all reads as it was"
refused "own sources" "$registryfs" import "$root" /lazy --state-dir "$offline" --car "$car"
tree_down
finish
