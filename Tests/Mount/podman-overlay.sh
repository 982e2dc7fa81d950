#!/usr/bin/env bash
# podman with its storage on the mount and the kernel's overlay driver: images, layers with whiteouts
# and opaque directories, containers, commit, save and load (as OCI archives). What a container sees and what podman
# tells must be the same as with the storage on the disk below. Nothing is downloaded.
source "$(dirname "$0")/lib.sh"

grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || {
    echo "ok skipped: the kernel has no overlayfs"
    current=""
    exit 0
}
exec 4>&1
storage="" # the graph root
engine() {
    # podman takes no runroot of more than 50 characters.
    podman --root "$storage" --runroot "$work/r-$(basename "$storage")" --storage-driver overlay \
        --runtime runc --cgroup-manager cgroupfs --events-backend file "$@"
}
run() { engine run --network host --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@"; }
clean_containers() {
    local status=$?
    set +e
    trap - ERR
    for storage in "$work/disk" "$mnt/storage"; do
        [[ ! -d $storage ]] || engine rm --force --all --time 0
        umount "$storage/overlay"
    done >/dev/null 2>&1
    (exit "$status")
    clean_up >&4 # also where it ends in the middle of a transcript
}
exec 2>>"$work/errors.log"
trap 'why="line $LINENO: $BASH_COMMAND: $(tail -n 1 "$work/errors.log")"' ERR

# The root of an image with Debian's shell.
make_base() {
    local tree=$work/tree tool library name
    mkdir -p "$tree/bin" "$tree/data/deep" "$tree/gone" "$tree/proc" "$tree/dev" "$tree/sys" "$tree/etc"
    for tool in bash cat chmod chown cp ln ls mkdir mv rm stat; do
        cp "$(command -v "$tool")" "$tree/bin/$tool"
        ldd "$(command -v "$tool")" | grep -o '/[^ ]*' | sort -u | while read -r library; do
            install -D "$library" "$tree$library"
        done
    done
    ln -s bash "$tree/bin/sh"
    for name in data/a data/b data/c data/deep/d gone/e; do
        head -c 300000 /dev/zero | tr '\0' "${name: -1}" >"$tree/$name"
    done
    tar -C "$tree" -c . >"$work/base.tar"
}
# What one container does to the layers below.
changes='
    while read -r device at kind rest; do [[ $at != / ]] || echo "the root is $kind"; done </proc/mounts
    cd /data
    echo more >>a
    mv b moved
    rm c
    mv deep sunk 2>/dev/null || echo "mv did not"
    rm -r ../gone
    mkdir ../gone
    echo new >../gone/new
    ln a link
    chmod 4711 a
    ls -R . ../gone'
# podman_at ROOT: all of it, told for comparison; ends with a stopped container and three images.
podman_at() {
    storage=$1
    engine import --quiet "$work/base.tar" base >/dev/null
    engine info --format '{{.Store.GraphDriverName}}'
    engine info --format '{{index .Store.GraphStatus "Supports d_type"}} {{index .Store.GraphStatus "Native Overlay Diff"}}'
    run --name first base /bin/sh -c "$changes"
    engine diff first | sort
    engine commit --quiet first second-layer >/dev/null
    run --rm second-layer /bin/sh -c "cd /data; ls -lnR . ../gone | while read -r mode links uid gid size rest; do
        [[ \$mode == total ]] || echo \$mode \$links \$uid \$gid \$size \${rest##* }; done"
    run --name second second-layer /bin/sh -c 'rm -r /data; mkdir /data; echo last >/data/last'
    engine commit --quiet second third-layer >/dev/null
    run --rm third-layer /bin/sh -c 'ls -R /data; cat /data/last'
    engine save --quiet --format oci-archive -o "$work/saved.tar" third-layer
    engine rm second >/dev/null
    engine rmi third-layer | grep -c Untagged
    engine load --quiet -i "$work/saved.tar" | grep -c Loaded
    rm "$work/saved.tar"
    run --rm third-layer /bin/sh -c 'ls -R /data; cat /data/last'
}
podman_again() { # a container of before goes on, with what it had changed
    engine start --attach first
    engine diff first | sort
    run --rm third-layer /bin/sh -c 'cat /data/last'
}
podman_away() {
    engine rm --force --all --time 0 >/dev/null
    engine rmi --all --force >/dev/null
    engine images --quiet | wc -l
    find "$storage/overlay" -mindepth 1 -maxdepth 1 ! -name l ! -name .has-mount-program | wc -l
}
quiet_umount() { umount "$storage/overlay" 2>/dev/null || :; }
compare() { # compare FUNCTION: the two transcripts
    diff "$work/expected" "$work/found" >"$work/difference" ||
        fail "$(head -n 4 "$work/difference" | cut -c 1-300 | tr '\n' ' ')"
}

make_base
volume_up
trap clean_containers EXIT

begin "podman with its storage on the mount, by the kernel's overlayfs"
podman_at "$work/disk" >"$work/expected"
podman_at "$mnt/storage" >"$work/found"
compare
grep -qx "the root is overlay" "$work/found" || fail "the container's root is not overlayfs"
find "$storage/overlay" -type c ! -perm /7777 | grep -q . || fail "no whiteout in the storage"

begin "images and containers are there after unmount and mount"
quiet_umount
volume_again
storage=$work/disk
podman_again >"$work/expected"
storage=$mnt/storage
podman_again >"$work/found"
compare

begin "and all of it can be removed"
same "what is left" $'0\n0' "$(podman_away)"
quiet_umount
volume_down
volume_check
finish
