# What the benchmarks share about the disk below; sourced after Mount/common.sh, never run.

# need_disk DIRECTORY: dies where a directory is not on a real disk.
need_disk() {
    local kind
    kind=$(findmnt -n -o FSTYPE -T "$1")
    case $kind in
    tmpfs | overlay | fuse*) die "$1 is not on a real disk ($kind): give --dir" ;;
    esac
}

# new_ext4 DIRECTORY: mounts an ext4 there, made as mkfs.ext4(8) makes it where nothing is asked for,
# so with a journal. It lies in a file that the mount hides, and is used past the page cache.
new_ext4() {
    apt_need e2fsprogs mount
    local image=$1/ext4 device
    truncate -s 24G "$image"
    mkfs.ext4 -q "$image"
    device=$(losetup --direct-io=on --find --show "$image") || die "no loop device for --new-ext4"
    mount "$device" "$1" || {
        losetup --detach "$device"
        die "an ext4 of its own cannot be mounted at $1"
    }
    # Now, and in effect once it is unmounted.
    losetup --detach "$device"
    chmod 755 "$1"
}

# end_disk DIRECTORY: unmounts what new_ext4 mounted, if it did.
end_disk() {
    is_mounted "$1" || return 0
    timeout 60 umount "$1" || umount -l "$1"
}

# facts_of_disk DIRECTORY: the filesystem, whether it has a journal, and how it is mounted.
facts_of_disk() {
    local kind options journal=""
    read -r kind options < <(findmnt -n -o FSTYPE,OPTIONS -T "$1")
    if [[ $kind == ext4 ]]; then
        journal=" without a journal"
        # The kernel has a directory for each journal (8: the inode that holds it).
        [[ ! -d /proc/fs/jbd2/$(basename "$(findmnt -n -v -o SOURCE -T "$1")")-8 ]] ||
            journal=" with a journal"
    fi
    echo "$kind$journal $options"
}
