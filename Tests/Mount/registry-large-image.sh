#!/usr/bin/env bash
# An image of 6 layers, 500 MB in all, through the stock registry on the mount.
source "$(dirname "$0")/lib.sh"

bytes=500000000
[[ -z $quick ]] || bytes=50000000
digest=$(make_image "$work/image" --layers 6 --bytes "$bytes")
volume_up
registry_up

begin "push of 6 large layers"
push "$work/image" large/image:v1
begin "pull gives the digest that was pushed"
pull large/image:v1 "$digest"

begin "pull after unmount and mount"
registry_down
volume_again
registry_up
pull large/image:v1 "$digest"

begin "check of the state directory is clean"
registry_down
volume_down
volume_check
finish
