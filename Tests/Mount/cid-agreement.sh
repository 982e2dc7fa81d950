#!/usr/bin/env bash
# CIDs are those that `ipfs add` makes: compared with Debian's ipfs-cid (unixfs-v0-2015), with
# published vectors, and with unixfs.py; blocks and CAR files are verified without the daemon.
source "$(dirname "$0")/lib.sh"
in_all_modes REGISTRYFS_TEST_QUICK=1

cid_of() { getfattr --absolute-names -n ipfs.cid --only-values "$1"; }
# stream SEED SIZE: the deterministic bytes that Kubo's own CID tests use (ChaCha20 of sha256(SEED)).
stream() {
    local key
    key=$(printf %s "$1" | sha256sum | cut -d' ' -f1)
    head -c "$2" /dev/zero | openssl enc -chacha20 -K "$key" -iv "$(printf '%032d' 0)"
}
reference() { # reference PROFILE FILE: by a program that is not ours where there is one
    if [[ $1 == v0 ]]; then
        ipfs_cid "$2" 2>/dev/null | jq -r .CIDv0
    else
        python3 "$here/unixfs.py" cid --profile v1 "$2"
    fi
}
use_profile() {
    state=$work/state-$1
    mkdir -p "$state"
    volume_up --profile "$1"
}

KiB=1024 MiB=$((1024 * 1024))
sizes=(0 1 255 $((256 * KiB)) $((256 * KiB + 1)) $((MiB - 1)) $MiB $((MiB + 1)) $((5 * MiB + 3))
    $((300 * 1000 * 1000)))
[[ -z $quick ]] || unset 'sizes[-1]'
mkdir "$work/files"
for size in "${sizes[@]}"; do
    stream "file of $size" "$size" >"$work/files/$size"
    same "unixfs.py and ipfs-cid on $size bytes" "$(reference v0 "$work/files/$size")" \
        "$(python3 "$here/unixfs.py" cid --profile v0 "$work/files/$size")"
done

for profile in v0 v1; do
    full=unixfs-v0-2015
    [[ $profile == v0 ]] || full=unixfs-v1-2025
    begin "$full: CIDs of files of ${#sizes[@]} sizes"
    use_profile "$full"
    cp "$work/files"/* "$mnt"
    for size in "${sizes[@]}"; do
        expected=$(reference "$profile" "$work/files/$size")
        same "CID of $size bytes" "$expected" "$(cid_of "$mnt/$size")"
        same "user.ipfs.cid" "$expected" \
            "$(getfattr --absolute-names -n user.ipfs.cid --only-values "$mnt/$size")"
        same "registryfs cid" "$expected" "$("$registryfs" cid "$mnt/$size" | grep -oE '(Qm|baf)[A-Za-z0-9]+')"
    done

    begin "$full: CID of the tree, its CAR and its blocks"
    mkdir -p "$mnt/a/b/c" "$mnt/empty"
    for index in $(seq 300); do echo "$index" >"$mnt/a/b/$index"; done
    ln -s ../5 "$mnt/a/b/c/link"
    expected=$(python3 "$here/unixfs.py" cid --profile "$profile" "$mnt")
    same "root CID" "$expected" "$(cid_of "$mnt")"
    "$registryfs" export-car "$mnt" -o "$work/tree.car" >/dev/null
    python3 "$here/unixfs.py" compare "$work/tree.car" "$mnt" "$expected" >"$work/compared" 2>&1 ||
        fail "$(tail -n 1 "$work/compared")"
    # Blocks of every kind one by one: the root, and each block of a file of several leaves.
    "$registryfs" export-car "$mnt/$((5 * MiB + 3))" -o "$work/file.car" >/dev/null
    python3 "$here/unixfs.py" blocks "$work/file.car" >"$work/blocks"
    (($(wc -l <"$work/blocks") >= 7)) || fail "the file's CAR has too few blocks"
    echo "$expected" >>"$work/blocks"
    while read -r cid; do
        same "sha256 of block $cid" "$(python3 "$here/unixfs.py" digest "$cid")" \
            "$("$registryfs" block --state-dir "$state" "$cid" | sha256sum | cut -d' ' -f1)"
    done <"$work/blocks"

    begin "$full: CIDs follow changes, and are the same after unmount and mount"
    printf changed | dd of="$mnt/$MiB" bs=1 seek=$((MiB / 2)) conv=notrunc status=none
    printf more >>"$mnt/$((MiB - 1))"
    truncate -s 300K "$mnt/$((5 * MiB + 3))"
    mv "$mnt/a/b/7" "$mnt/a/seven"
    rm "$mnt/a/b/8"
    expected=$(python3 "$here/unixfs.py" cid --profile "$profile" "$mnt")
    same "root CID" "$expected" "$(cid_of "$mnt")"
    volume_again --profile "$full"
    same "root CID after mounting again" "$expected" "$(cid_of "$mnt")"

    begin "$full: published vectors"
    rm -rf "${mnt:?}"/*
    check_vector() { # check_vector SEED SIZE CID
        stream "$1" "$2" >"$mnt/vector"
        same "CID of $2 bytes of $1" "$3" "$(cid_of "$mnt/vector")"
    }
    if [[ $profile == v0 ]]; then
        check_vector chunk-v0-seed 262144 QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE
        check_vector chunk-v0-seed 262145 QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ
        check_vector v0-seed $((174 * 262144)) QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2
        check_vector v0-seed $((174 * 262144 + 1)) QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW
    else
        check_vector chunk-v1-seed $MiB bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta
        check_vector chunk-v1-seed $((MiB + 1)) \
            bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64
        [[ -n $quick ]] || check_vector v1-2025-seed $((1024 * MiB)) \
            bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm
        [[ -n $quick ]] || check_vector v1-2025-seed $((1024 * MiB + 1)) \
            bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe
    fi
    rm "$mnt/vector"
    volume_down
    volume_check
done

begin "the CAR of a registry's whole tree imports to the same root"
use_profile unixfs-v1-2025
registry_up
make_image "$work/image" --layers 20 --bytes 30000000 >/dev/null
push "$work/image" car/image:v1
registry_down
root=$(cid_of "$mnt")
same "root CID by unixfs.py" "$(python3 "$here/unixfs.py" cid --profile v1 "$mnt")" "$root"
"$registryfs" export-car "$mnt" -o "$work/registry.car" >/dev/null
python3 "$here/unixfs.py" compare "$work/registry.car" "$mnt" "$root" >"$work/compared" 2>&1 ||
    fail "$(tail -n 1 "$work/compared")"
# By its root CID, and on a mount that was restarted.
volume_again --profile unixfs-v1-2025
same "root CID after mounting again" "$root" "$(cid_of "$mnt")"
"$registryfs" export-car --state-dir "$state" "$root" -o "$work/again.car" >/dev/null
python3 "$here/unixfs.py" compare "$work/again.car" "$mnt" "$root" >"$work/compared" 2>&1 ||
    fail "$(tail -n 1 "$work/compared")"
volume_down
volume_check
finish
