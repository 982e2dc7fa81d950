#!/usr/bin/env bash
# Programs made to break filesystems, each for a bounded time, each checking what it reads.
source "$(dirname "$0")/lib.sh"
in_all_modes

seconds=10
[[ -z $quick ]] || seconds=3
volume_up
log=$work/log

begin "fio: random writes of mixed sizes verify"
fio --name=verify --directory="$mnt" --rw=randwrite --bsrange=4k-64k --size=64m --numjobs=2 \
    --ioengine=psync --fallocate=none --fsync=200 --verify=crc32c --verify_fatal=1 --do_verify=1 \
    --end_fsync=1 --verify_state_save=0 --group_reporting >"$log" 2>&1 || fail "$(excerpt 'verify|err' "$log")"
begin "fio: sequential writes and mapped writes verify"
fio --name=sequential --directory="$mnt" --rw=write --bs=32k --size=128m --ioengine=psync \
    --fallocate=none --verify=crc32c --verify_fatal=1 --do_verify=1 --end_fsync=1 \
    --verify_state_save=0 \
    --name=mapped --directory="$mnt" --rw=randwrite --bs=4k --size=16m --ioengine=mmap \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 >"$log" 2>&1 ||
    fail "$(excerpt 'verify|err' "$log")"
rm -rf "${mnt:?}"/*

begin "stress-ng: data and metadata at once, with verification"
mkdir "$mnt/stress"
stress-ng --temp-path "$mnt/stress" --timeout "$seconds" --verify --oomable \
    --hdd 1 --hdd-bytes 32m --dir 1 --dir-dirs 512 --rename 1 --link 1 --symlink 1 --xattr 1 \
    --dentry 1 --dentries 256 --chmod 1 --chown 1 --utime 1 --fallocate 1 --fallocate-bytes 16m \
    --seek 1 --seek-size 16m --flock 1 --lockf 1 --filename 1 --copy-file 1 --copy-file-bytes 128m \
    --sync-file 1 --sync-file-bytes 8m --mmap 1 --mmap-bytes 8m --mmap-file >"$log" 2>&1 ||
    fail "$(excerpt 'fail|error' "$log")"
! grep -q 'fail:' "$log" || fail "$(excerpt 'fail:' "$log")"
same "what stress-ng leaves" "" "$(ls -A "$mnt/stress")"

begin "dbench: four clients"
# It takes the identifier 0 for a failure, which its semaphore has where there is no other one.
ipcmk --semaphore 1 >/dev/null
dbench --directory="$mnt" --timelimit="$seconds" 4 >"$log" 2>&1 || fail "$(excerpt 'failed|ERROR' "$log")"
! grep -qE 'failed|ERROR' "$log" || fail "$(excerpt 'failed|ERROR' "$log")"
rm -rf "${mnt:?}"/*

begin "check of the state directory is clean"
same "what is left" "" "$(ls -A "$mnt")"
volume_down
volume_check
finish
