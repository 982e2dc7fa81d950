#!/usr/bin/env bash
# Two images that share nothing, one deleted: the registry's garbage collection gives the space back.
source "$(dirname "$0")/lib.sh"

megabytes=100
[[ -z $quick ]] || megabytes=20
kept=$(make_image "$work/kept" --layers 4 --bytes $((megabytes * 1000000)) --seed 1)
gone=$(make_image "$work/gone" --layers 4 --bytes $((megabytes * 1000000)) --seed 2)

collect() { # the registry is stopped meanwhile, as its manual asks
    registry_down
    REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$mnt docker-registry garbage-collect -m \
        "$top/Mount/registry.yml" >"$work/collect.log" 2>&1 ||
        fail "garbage-collect: $(tail -n 1 "$work/collect.log")"
}
below() { (($(state_megabytes) < $1)); }
visible_megabytes() { du -sm "$mnt" | cut -f1; }
delete_and_collect() { # delete_and_collect NAME DIGEST
    local before
    before=$(state_megabytes)
    ((before >= 2 * megabytes * 9 / 10)) || fail "the state has only $before MB before"
    skopeo --insecure-policy delete --tls-verify=false "docker://127.0.0.1:$port/$1@$2"
    collect
    (($(visible_megabytes) < megabytes * 12 / 10)) ||
        fail "the tree still has $(visible_megabytes) MB"
    # Objects are removed behind the last unlink.
    wait_for 30 below $((before - megabytes * 8 / 10)) ||
        fail "the state directory had $before MB and still has $(state_megabytes) MB"
}

volume_up
registry_up
push "$work/kept" test/kept:v1
push "$work/gone" test/gone:v1

begin "deleting an image and collecting gives its space back"
delete_and_collect test/gone "$gone"
registry_up
begin "the deleted image is gone"
! output=$(skopeo inspect --tls-verify=false "docker://127.0.0.1:$port/test/gone@$gone" 2>&1) ||
    fail "it is still there"
[[ $output == *"manifest unknown"* ]] || fail "it is gone in another way: $output"
begin "the other image still pulls"
pull test/kept:v1 "$kept"

begin "the same after unmount and mount"
push "$work/gone" test/again:v1
registry_down
volume_again
registry_up
pull test/again:v1 "$gone"
delete_and_collect test/again "$gone"
registry_down
volume_again
registry_up
pull test/kept:v1 "$kept"

begin "check of the state directory is clean"
registry_down
volume_down
volume_check
finish
