#!/usr/bin/env bash
# File handles (name_to_handle_at, open_by_handle_at) go on to open what they were taken of: when the
# kernel has dropped the inode, after renames, and after unmount, mount and a crash (--file-handles).
source "$(dirname "$0")/lib.sh"

handles() { python3 "$here/handles.py" "$1" "$mnt" "$work/handles" 2>&1 | tail -n 1 >"$work/said"; }
try() { handles "$@" || fail "$(cat "$work/said")"; }

begin "handles of inodes that the kernel has"
volume_up --file-handles
try keep
try check

begin "handles of inodes that the kernel has dropped"
sync # of dirty inodes it lets none go
python3 "$here/handles.py" drop
try check

begin "handles after unmount and mount"
volume_again --file-handles
try check

begin "handles after renames and unlinks"
try change
try check
python3 "$here/handles.py" drop
try check
volume_again --file-handles
try check

begin "handles after a crash"
sync -f "$mnt"
daemon_kill
umount -l "$mnt"
volume_up --file-handles
try check

begin "a handle from before a crash never opens the file that has got its number"
# The numbers of the newest files, once these are deleted, are given again after a crash.
try lose
sync -f "$mnt"
daemon_kill
umount -l "$mnt"
volume_up --file-handles
try find

begin "the volume is in order"
volume_down
volume_check
finish
