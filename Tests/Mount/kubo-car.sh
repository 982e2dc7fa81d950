#!/usr/bin/env bash
# What volumes write as CAR files a Kubo node imports to the same root, with the same bytes, and the other way round.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"
in_both_nodes

files=20000 names=12500
[[ -z $quick ]] || files=2000

# imports FILE ROOT: the node takes the file, and tells that root, whole.
imports() {
    local reply
    reply=$(rpc dag/import "pin-roots=true&stats=true" -F "file=@$1") || fail "the node does not import $1"
    same "root of $1" "$2" "$(jq -rs 'map(.Root.Cid["/"] // empty) | join(" ")' <<<"$reply")"
    same "what the node says of its pin" "" "$(jq -rs 'map(.Root.PinErrorMsg // empty) | join(" ")' <<<"$reply")"
}
# exports PATH: the CAR file of a path, as $work/NAME.car; sets $car and $root.
exports() {
    car=$work/$(basename "$1").car
    root=$(root_cid "$1")
    same "what is exported" "$root" "$("$registryfs" export-car --json "$1" -o "$car" | jq -r .cid)"
}
# lists CID DIRECTORY: the node has the names of the directory.
lists() {
    diff <(rpc ls "arg=$1&resolve-type=false&size=false" | jq -r '.Objects[0].Links[].Name' | sort) \
        <(ls -A "$2" | sort) >"$work/diff" || fail "the node lists other names: $(head -n 3 "$work/diff")"
}
# gives CID FILE: the node has the file's bytes.
gives() { same "bytes of $2" "$(sha256sum <"$2")" "$(rpc cat "arg=$1" | sha256sum)"; }

node_up
volume_up
mkdir -p "$mnt/things"
head -c 1000 /dev/urandom >"$mnt/things/small"
touch "$mnt/things/empty"
head -c 9500000 /dev/urandom >"$mnt/things/leaves"
python3 - "$mnt" "$files" "$names" <<'PYTHON'
import os, sys
top, files, names = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(files):
    directory = f"{top}/tree/{number % 7}/{number // 100}"
    if number < 7 or number % 100 < 7: os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/file {number}.ü", "w") as file: file.write(f"content {number // 2}\n" * (1 + number % 40))
os.symlink("0/0", f"{top}/tree/link")
os.mkdir(f"{top}/tree/nothing")
os.mkdir(f"{top}/wide")
for number in range(names):
    with open(f"{top}/wide/a name of the shard {number}", "w") as file: file.write(str(number))
PYTHON

begin "files of one leaf, of several, and of none"
for name in small leaves empty; do
    exports "$mnt/things/$name"
    imports "$car" "$root"
    gives "$root" "$mnt/things/$name"
done

begin "a tree of $files files"
exports "$mnt/tree"
imports "$car" "$root"
lists "$root" "$mnt/tree"
lists "$root/3/0" "$mnt/tree/3/0"
gives "$root/3/0/$(jq -rn '"file 3.ü" | @uri')" "$mnt/tree/3/0/file 3.ü"

begin "a directory of $names names"
exports "$mnt/wide"
imports "$car" "$root"
# UnixFS type 5, a shard, whose bits follow.
rpc block/get "arg=$root" | LC_ALL=C grep -qaP '\x08\x05\x12' || fail "it is no HAMT"
lists "$root" "$mnt/wide"
gives "$root/$(jq -rn '"a name of the shard 12345" | @uri')" "$mnt/wide/a name of the shard 12345"

begin "a snapshot, and one with a manifest"
"$registryfs" snapshot create plain >/dev/null
"$registryfs" snapshot export plain -o "$work/plain.car" >/dev/null
imports "$work/plain.car" "$(root_cid)"
gives "$(root_cid)/things/leaves" "$mnt/things/leaves"
manifest=$("$registryfs" snapshot create whole --with-manifest --json | jq -r .manifest)
"$registryfs" snapshot export whole -o "$work/whole.car" >/dev/null
imports "$work/whole.car" "$manifest"

begin "content that is not here is fetched while it is exported"
whole=$(root_cid)
"$registryfs" export-car "$mnt" -o "$work/here.car"
mkdir "$work/elsewhere"
"$registryfs" mount --state-dir "$work/state-elsewhere" --from "/ipfs/$whole" --kubo "$rpc_address" "$work/elsewhere"
same "objects that are here" 0 "$("$registryfs" status --json "$work/elsewhere" | jq '.mounts[0].cachedBytes // 0')"
"$registryfs" export-car "$work/elsewhere" -o "$work/elsewhere.car"
cmp "$work/here.car" "$work/elsewhere.car"
"$registryfs" unmount "$work/elsewhere"
imports "$work/elsewhere.car" "$whole"

begin "what the node exports comes into a volume under the same root"
mkdir "$work/theirs"
"$registryfs" mount --state-dir "$work/state-theirs" "$work/theirs"
for name in things/small things/leaves tree wide; do
    root=$(root_cid "$mnt/$name")
    rpc dag/export "arg=$root" >"$work/theirs.car"
    "$registryfs" import-car "$work/theirs.car" "$work/theirs" --at "$(basename "$name")" >/dev/null
    same "CID of $name" "$root" "$(root_cid "$work/theirs/$(basename "$name")")"
    diff -r "$mnt/$name" "$work/theirs/$(basename "$name")" || fail "$name reads otherwise"
done

if ! is_double; then
    begin "what the node has added itself has the volume's CIDs, and comes into one"
    for name in things tree wide; do
        added=$(ipfs add -rQ "$mnt/$name")
        same "CID of $name" "$(root_cid "$mnt/$name")" "$added"
    done
    # Other chunks, other layout: the bytes come, under the profile's CID.
    added=$(ipfs add -rQ --trickle --chunker=size-65536 --cid-version=0 --raw-leaves=false "$mnt/things")
    ipfs dag export "$added" >"$work/theirs.car" 2>/dev/null
    "$registryfs" import-car "$work/theirs.car" "$work/theirs" --at others >/dev/null 2>&1
    same "CID of another layout's content" "$(root_cid "$mnt/things")" "$(root_cid "$work/theirs/others")"
    diff -r "$mnt/things" "$work/theirs/others" || fail "another layout reads otherwise"
fi
"$registryfs" unmount "$work/theirs"
"$registryfs" check --state-dir "$work/state-theirs" >"$work/check" 2>&1 || fail "check: $(tail -n 3 "$work/check")"
volume_down
volume_check
finish
