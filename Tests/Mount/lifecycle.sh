#!/usr/bin/env bash
# Ways into a mount and out of it: mount(8) and fstab through the helper, umount(8), SIGTERM, the
# foreground, a dead mount point, lazily while a file is open.
source "$(dirname "$0")/lib.sh"

put() { echo "$1" >"$mnt/file"; }
gone() { ! is_mounted "$mnt"; }

begin "umount(8) ends the daemon, and nothing is lost"
volume_up
put one
pid=$(daemon_pid)
umount "$mnt"
wait_for 20 process_gone "$pid" || fail "the daemon stays after umount"
volume_check
volume_up
same "content" one "$(cat "$mnt/file")"

begin "SIGTERM unmounts, and nothing is lost"
put two
pid=$(daemon_pid)
kill "$pid"
wait_for 20 process_gone "$pid" || fail "the daemon stays after SIGTERM"
gone || fail "still mounted after SIGTERM"
volume_check

begin "in the foreground it stays until SIGTERM"
"$registryfs" mount --foreground --state-dir "$state" "$mnt" 2>"$work/foreground.log" &
pid=$!
background+=("$pid")
wait_for 20 is_mounted "$mnt" || fail "not mounted: $(tail -n 1 "$work/foreground.log")"
same "content" two "$(cat "$mnt/file")"
same "daemon" "$pid" "$(daemon_pid)"
put three
kill -TERM "$pid"
wait "$pid" || fail "it ended with status $?"
gone || fail "still mounted"

begin "a dead mount point is mounted over, also while a process stands in it"
volume_up
(cd "$mnt" && exec sleep 600) &
background+=("$!")
daemon_kill
! stat "$mnt" >/dev/null 2>&1 || fail "the mount survived its daemon"
volume_up
same "content" three "$(cat "$mnt/file")"
volume_down
gone || fail "still mounted"

begin "a dead mount point can be unmounted"
volume_up
daemon_kill
"$registryfs" unmount "$mnt" 2>"$work/unmount.log" || fail "$(<"$work/unmount.log")"
gone || fail "still mounted"

begin "lazy unmount keeps an open file usable until it is closed"
volume_up
pid=$(daemon_pid)
exec 3<>"$mnt/file"
! "$registryfs" unmount "$mnt" 2>/dev/null || fail "unmounted with an open file"
"$registryfs" unmount --lazy "$mnt" 2>/dev/null
gone || fail "still mounted"
read -r line <&3
same "content of the open file" three "$line"
echo four >&3
exec 3>&-
wait_for 20 process_gone "$pid" || fail "the daemon stays after the last close"
volume_check
volume_up
same "content" "three four" "$(tr '\n' ' ' <"$mnt/file" | sed 's/ $//')"
volume_down

begin "mount(8) and fstab through the helper"
# /sbin as it would be after Mount/install, in a mount namespace of its own.
mkdir -p "$work/bin" "$work/upper" "$work/overlay"
ln -s "$registryfs" "$work/bin/registryfs"
echo "$state $mnt fuse.registryfs noauto,nofail,noatime,x-systemd.automount 0 0" >"$work/fstab"
export state mnt work top
unshare --mount --propagation private bash -euc '
    sbin=$(realpath /sbin)
    mount -t overlay -o "lowerdir=$sbin,upperdir=$work/upper,workdir=$work/overlay" none "$sbin"
    install -m 755 "$top/Mount/mount.fuse.registryfs" "$sbin/"
    sed -i "s|/usr/local/bin|$work/bin|" "$sbin/mount.fuse.registryfs"
    mount -t fuse.registryfs "$state" "$mnt"
    findmnt --noheadings --types fuse.registryfs "$mnt" >&2
    grep -q three "$mnt/file"
    umount "$mnt"
    sleep 0.5
    mount --fstab "$work/fstab" "$mnt"
    grep -q three "$mnt/file"
    umount "$mnt"
    sleep 0.5
    mount -t fuse.registryfs -o "ro,state-dir=$state" registryfs "$mnt"
    if touch "$mnt/new" 2>/dev/null; then echo "mounted with ro, and a file is made" >&2; exit 1; fi
    umount "$mnt"
    sleep 0.5
' 2>"$work/helper.log" || fail "$(tail -n 2 "$work/helper.log" | tr '\n' ' ')"

begin "install puts everything in place, and takes it away"
if [[ -x $top/.build/release/registryfs ]]; then
    DESTDIR=$work/root PREFIX=/usr "$top/Mount/install" 2>"$work/install.log"
    for file in usr/bin/registryfs sbin/mount.fuse.registryfs \
        etc/systemd/system/registryfs.service etc/systemd/system/registryfs@.service; do
        [[ -s $work/root/$file ]] || fail "$file is missing"
    done
    grep -q '^ExecStart=/usr/bin/registryfs mount' "$work/root/etc/systemd/system/registryfs.service" ||
        fail "the unit does not name the installed program"
    grep -q '^options fuse enable_uring=1$' "$work/root/etc/modprobe.d/registryfs.conf" ||
        fail "nothing turns on io_uring for FUSE"
    grep -q "enable_uring" "$work/install.log" || fail "install does not say what it turns on: $(<"$work/install.log")"
    DESTDIR=$work/root PREFIX=/usr "$top/Mount/install" --uninstall
    same "files after --uninstall" 0 "$(find "$work/root" -type f | wc -l)"
else
    fail "no release build to install"
fi
volume_check
finish
