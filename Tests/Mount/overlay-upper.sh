#!/usr/bin/env bash
# overlayfs with its upper and work directories on the mount, beside the same on ext4: what programs
# see in the overlay, what lies in the upper layer, the options that took effect, and what the kernel
# warns of must be the same; also once all is unmounted and mounted again.
source "$(dirname "$0")/lib.sh"

grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || {
    echo "ok skipped: the kernel has no overlayfs"
    current=""
    exit 0
}
image() { # image NAME: an ext4 in a file, mounted at $work/NAME
    truncate -s 128M "$work/$1.img"
    mkfs.ext4 -q -U random "$work/$1.img"
    mkdir "$work/$1"
    mount -o loop "$work/$1.img" "$work/$1"
}
image ext4
image below
volume_up
exec 4>&1
trap 'clean_up >&4' EXIT # also where it ends in the middle of a transcript
merged=$work/merged
mkdir "$merged"
python3 "$here/overlay-upper.py" lower "$work/below"

# mark, warnings MARK: what overlayfs has told the kernel's log since. Another overlay that is mounted
# meanwhile may add its own, so these are sets.
mark() {
    local text="registryfs test $$ $SECONDS $1"
    echo "<5>$text" >/dev/kmsg && echo "$text"
}
warnings() { dmesg --level emerg,alert,crit,err,warn,notice | sed "1,/$1/d" | sed -n 's/^.*\(overlayfs: .*\)/\1/p' | sort -u; }

overlay_up() { # overlay_up TOP LOWER OPTIONS
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work${3:+,$3}" "$merged"
}
tell() { # tell TOP LOWER: both layers, and the mount's options
    findmnt -n -o FS-OPTIONS "$merged" | sed "s#$2#LOWER#; s#$1#TOP#g"
    python3 "$here/overlay-upper.py" tell "$merged" "$1/upper"
}
# run TOP LOWER OPTIONS AGAIN...: the whole of it, on one filesystem; the command takes the filesystem
# away and brings it back.
run() {
    local at=$1 lower=$2 options=$3 begun
    shift 3
    rm -rf "$at/upper" "$at/work"
    mkdir "$at/upper" "$at/work"
    begun=$(mark "$options")
    if ! overlay_up "$at" "$lower" "$options" 2>&1 | sed 's/^.*: //'; then
        echo "cannot be mounted"
        return
    fi
    python3 "$here/overlay-upper.py" work "$merged" 2>&1
    tell "$at" "$lower"
    umount "$merged"
    "$@"
    if [[ $options == *volatile* ]]; then
        ! overlay_up "$at" "$lower" "$options" 2>/dev/null || echo "mounted again without a word"
        rm -rf "$at/work/work/incompat"
    fi
    overlay_up "$at" "$lower" "$options" 2>&1
    tell "$at" "$lower"
    umount "$merged"
    warnings "$begun" >"$at.warnings"
}
ext4_again() {
    umount "$work/ext4"
    mount -o loop "$work/ext4.img" "$work/ext4"
}
compare() { # compare LOWER-OF-EXT4 LOWER-OF-MOUNT OPTIONS
    run "$work/ext4" "$1" "$3" ext4_again >"$work/expected"
    # What overlayfs exports it finds again by the file handles of its layers.
    local mount=()
    [[ $3 != *nfs_export=on* ]] || mount=(--file-handles)
    run "$mnt" "$2" "$3" volume_again "${mount[@]}" >"$work/found"
    cmp -s "$work/expected" "$work/found" ||
        fail "$(diff "$work/expected" "$work/found" | head -n 4 | cut -c 1-300 | tr '\n' ' ')"
    grep -q "^merged drwx" "$work/found" || fail "there was nothing to compare"
    local more
    more=$(comm -13 "$work/ext4.warnings" "$mnt.warnings")
    [[ -z $more ]] || fail "the kernel warns of the mount only: $more"
}

begin "a whiteout is what ext4 makes of it"
for at in "$work/ext4" "$mnt"; do
    mkdir "$at/whiteouts"
    python3 "$here/overlay-upper.py" whiteouts "$at/whiteouts" >"$at.whiteouts" 2>&1
done
diff "$work/ext4.whiteouts" "$mnt.whiteouts" >"$work/difference" ||
    fail "$(head -n 4 "$work/difference" | cut -c 1-300 | tr '\n' ' ')"
grep -q "device 0:0" "$mnt.whiteouts" || fail "there was no whiteout"

for options in "" redirect_dir=on redirect_dir=on,metacopy=on index=on index=on,nfs_export=on volatile \
    userxattr xino=on redirect_dir=on,metacopy=on,index=on,xino=on; do
    begin "as on ext4, lower layer elsewhere: ${options:-no options}"
    compare "$work/below" "$work/below" "$options"
done

mkdir "$work/ext4/lower" "$mnt/lower"
for at in "$work/ext4" "$mnt"; do python3 "$here/overlay-upper.py" lower "$at/lower"; done
for options in "" redirect_dir=on,metacopy=on,index=on xino=on; do
    begin "as on ext4, all layers there: ${options:-no options}"
    compare "$work/ext4/lower" "$mnt/lower" "$options"
done

begin "an overlay that a user makes in a namespace of his own"
# userxattr: trusted.* is root's.
in_user_namespace() { # in_user_namespace TOP
    rm -rf "$1/users"
    mkdir -p "$1/users/upper" "$1/users/work"
    chown -R 65534:65534 "$1/users"
    setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user --mount \
        bash -euc '
            mount -t overlay overlay -o "userxattr,lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$3"
            cd "$3"
            ls | wc -l
            unlink unlink
            rm -r one
            mkdir one
            mv append appended
            echo text >>link
            cat link appended | wc -c
            ls
            stat -c "%A %t %T %n" "$2/upper/"*' bash "$work/lower" "$1/users" "$merged" |
        sed "s#$1##"
}
mkdir "$work/lower"
(cd "$work/lower" && mkdir one && touch one/a && for name in unlink append link; do
    echo "$name" >"$name"
done && chown -R 65534:65534 .)
chmod 755 "$work/ext4" "$mnt"
if setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user true 2>/dev/null; then
    same "what the user sees" "$(in_user_namespace "$work/ext4" 2>&1)" \
        "$(in_user_namespace "$mnt" 2>&1)"
else
    current="an overlay that a user makes in a namespace of his own (skipped: users may make none here)"
fi

begin "the volume is in order"
volume_down
volume_check
finish
