#!/usr/bin/env bash
# An image of 200 small layers: the registry's work on thousands of tiny files.
source "$(dirname "$0")/lib.sh"

digest=$(make_image "$work/image" --layers 200 --bytes 2000000)
volume_up
registry_up

begin "push of 200 small layers"
push "$work/image" small/layers:v1
begin "pull gives the digest that was pushed"
pull small/layers:v1 "$digest"
begin "a layer that another image has is not uploaded again"
push "$work/image" small/other:v1
pull small/other:v1 "$digest"

begin "pull after unmount and mount"
registry_down
volume_again
registry_up
pull small/layers:v1 "$digest"
pull small/other:v1 "$digest"

begin "check of the state directory is clean"
registry_down
volume_down
volume_check
finish
