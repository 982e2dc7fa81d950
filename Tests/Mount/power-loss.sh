#!/usr/bin/env bash
# Power cuts, which a kill -9 is not: that leaves the page cache. The state directory lies on a
# filesystem in an image file, and that on an XFS with reflinks, so a reflink copy of the image, made
# at a random moment under load, is the disk as a cut would leave it: what was handed to the disk by
# then, and nothing else. From each copy the volume is opened: `check` is clean, and all that was
# acknowledged before the copying began is there, whole.
#
# Not shown: a disk that loses or mixes what it was handed and not told to flush. A copy has all of it.
#
# REGISTRYFS_POWER_CUTS   how many cuts (10; 200 for a long run)
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"

cuts=${REGISTRYFS_POWER_CUTS:-10}
[[ -z $quick ]] || cuts=4
with_seed

grep -qw xfs /proc/filesystems || modprobe -q xfs 2>/dev/null || die "needs a kernel with XFS"
farm=$work/farm
after=$work/after # what a cut left, mounted
mkdir "$farm" "$after" "$work/volume"
truncate -s 40G "$work/farm.img"
mkfs.xfs -q -m reflink=1 "$work/farm.img"
mount -o loop "$work/farm.img" "$farm"

# ground NAME: an empty disk at $state/..: the filesystem that the state directory is to lie on.
ground() {
    local disk=$farm/$1.img
    truncate -s 3G "$disk"
    case $1 in
    ext4*-without-journal) mkfs.ext4 -q -O ^has_journal "$disk" ;;
    ext4*) mkfs.ext4 -q "$disk" ;;
    xfs*) mkfs.xfs -q "$disk" ;;
    esac
    mkdir -p "$work/$1"
    mount -o loop "$disk" "$work/$1"
    state=$work/$1/state
    mkdir "$state"
}

# power_cut NAME: copies the disk in one step, and notes how long the journals were before and after.
power_cut() {
    local name
    for name in journal acknowledged; do
        eval "${name}_before=\$(stat -c %s \"\$work/$name\")"
    done
    cp --reflink=always "$farm/$1.img" "$farm/cut.img"
    journal_after=$(stat -c %s "$work/journal")
}

# power_up NAME: what a machine does before anybody uses the disk. Sets `is_lost` where the filesystem has
# lost blocks by its own doing.
#
# Without a journal ext4 gives a freed block away again at once, while the inode that had it still stands on
# the disk as it was. Where that was a block of an extent tree, e2fsck mends it in what is the data or the
# extent tree of another file by now, which was flushed: no program above could keep that from happening.
power_up() {
    local options=loop code=0
    is_lost=""
    case $1 in
    xfs*) options=loop,nouuid ;; # the other one is mounted still
    *-without-journal)
        e2fsck -fy "$farm/cut.img" >"$work/fsck" 2>&1 || code=$?
        ((code <= 2)) || fail "$1: e2fsck: $(tail -n 2 "$work/fsck" | tr '\n' ' ')"
        is_lost=$(grep -im 1 'extent \(block\|tree\)' "$work/fsck" || :)
        [[ -z $is_lost ]] || return 0
        ;;
    esac
    mount -o "$options" "$farm/cut.img" "$after" || fail "$1: the disk cannot be mounted"
}

ready() { grep -q ready "$work/journal" 2>/dev/null; }

# check_cut NUMBER NAME: what a cut left is clean. Without a journal, an fsync makes no removal durable that came
# before it in another folder: a file that was removed, and forgotten since, may be back. It takes room and nothing
# else, and a repair removes it.
check_cut() {
    local problems others
    problems=$("$registryfs" check --state-dir "$after/state" 2>&1) && return
    others=$(grep '^problem: ' <<<"$problems" | grep -v ': a flat file of no object$' || :)
    if [[ $2 == *-without-journal && $problems == *"a flat file of no object"* && -z $others ]]; then
        say "$2, cut $1: files that were removed are back, and are repaired"
        problems=$("$registryfs" check --repair --state-dir "$after/state" 2>&1) && return
    fi
    fail "$2, cut $1: check is not clean: $(tail -n 3 <<<"$problems" | tr '\n' ' ')"
}

# round NUMBER NAME: one cut under load, and what it left.
round() {
    local storm pushes durable volume=$work/volume
    : >"$work/journal"
    python3 "$here/storm.py" run "$mnt/storm-$1" "$work/journal" mapped 2>"$work/storm-problems" &
    storm=$!
    pusher "$1" 4 3000000 cuts &
    pushes=$!
    background+=("$storm" "$pushes")
    wait_for 60 ready || fail "$2, cut $1: the storm does not start: $(<"$work/storm-problems")"
    pause 50 3000
    power_cut "$2"
    kill -9 "$storm"
    wait "$storm" 2>/dev/null || :
    wait "$pushes"
    [[ ! -s $work/storm-problems ]] ||
        fail "$2, cut $1: $(head -n 2 "$work/storm-problems" | tr '\n' ' ')"

    power_up "$2"
    if [[ -n $is_lost ]]; then
        say "$2, cut $1: tells nothing, the filesystem lost blocks itself: $is_lost"
        rm "$farm/cut.img"
        # Else the next cut meets the same: the old inodes reach the disk in half a minute.
        sync -f "$state"
        return
    fi
    check_cut "$1" "$2"
    # At a path of its own: what the volume that goes on publishes would else be merged into this one.
    "$registryfs" mount --state-dir "$after/state" "${volume_options[@]}" \
        ${volume_options:+--mfs-path "$mfs-$1"} "$volume"
    durable=$(python3 "$here/storm.py" verify "$volume/storm-$1" "$work/journal" \
        "$journal_before" "$journal_after" 2>"$work/storm-problems") ||
        fail "$2, cut $1: $(head -n 3 "$work/storm-problems" | tr '\n' ' ')"
    pull_acknowledged "$volume" "$2, cut $1"
    "$registryfs" unmount "$volume"
    umount "$after"
    rm "$farm/cut.img"
    say "$2, cut $1: $durable, $(head -c "$acknowledged_before" "$work/acknowledged" | wc -l) pushes"
}

# pull_acknowledged VOLUME TITLE: the newest of the images that were acknowledged before the cut.
pull_acknowledged() {
    local image digest running=$port
    head -c "$acknowledged_before" "$work/acknowledged" | tail -n 3 >"$work/to-pull"
    [[ -s $work/to-pull ]] || return 0
    port=$(free_port)
    start_registry "$1" "$port" "$work/registry.log" "$work/registry-after.pid"
    current="$current ($2)" # for what pull says
    while read -r image digest; do
        pull "$image" "$digest"
    done <"$work/to-pull"
    current=${current% (*}
    stop_registry "$work/registry-after.pid"
    port=$running
}

# cuts_on NAME COUNT [MOUNT OPTION...]: with options, there is a node.
cuts_on() {
    local name=$1 count=$2 number=0 told=0
    shift 2
    begin "$count power cuts under load on $name: check clean, nothing acknowledged is lost or half"
    ground "$name"
    rm -f "$work/acknowledged"
    touch "$work/acknowledged"
    volume_options=("$@")
    volume_up "$@" ${volume_options:+--mfs-path "$mfs"}
    registry_up
    while ((told < count)); do
        number=$((number + 1))
        # Most cuts tell something, or the test tells nothing.
        ((number <= 4 * count + 4)) || fail "$name: of $number cuts only $told told something"
        round "$number" "$name"
        [[ -n $is_lost ]] || told=$((told + 1))
    done
    registry_down
    volume_down
    volume_check
    umount "$work/$name"
    rm "$farm/$name.img"
}

mkdir "$work/images"
cuts_on ext4 $(((cuts + 3) / 4))
cuts_on ext4-without-journal $(((cuts + 2) / 4))
cuts_on xfs $(((cuts + 1) / 4))
# Content is let go to the node, and comes from there, beside all else.
node_up
cuts_on ext4-with-a-node $((cuts / 4)) --kubo "$rpc_address" --publish-interval 1 --cache-size 4M
finish
