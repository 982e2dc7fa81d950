#!/usr/bin/env bash
# What each operation leaves of set-id bits and of file capabilities, for root and for users, is what
# ext4 leaves (privilege-bits.py): the same table of operations runs on an ext4 and on the mount, with
# passthrough and without. The mount has `-o suid`, so that files also run as what their bits say.
source "$(dirname "$0")/lib.sh"

ext4=$work/ext4
mkdir "$ext4"
options=$(findmnt -n -o OPTIONS -T "$work")
if [[ $(findmnt -n -o FSTYPE -T "$work") != ext4 || $options == *nosuid* || $options == *noexec* ]]; then
    truncate -s 64M "$work/ext4.img"
    mkfs.ext4 -q "$work/ext4.img"
    mount -o loop "$work/ext4.img" "$ext4"
fi
chmod 755 "$ext4"
python3 "$here/privilege-bits.py" "$ext4" >"$work/expected"

for mode_name in "" ", without passthrough"; do
    volume_up -o suid ${mode_name:+--no-passthrough}
    chmod 755 "$mnt"
    python3 "$here/privilege-bits.py" "$mnt" >"$work/found"
    current=""
    python3 "$here/privilege-bits.py" --compare "$work/expected" "$work/found" |
        sed -uE "s/^(ok .*|not ok [^:]*)/\\1$mode_name/" || failed=1
    current="check of the state directory is clean"
    volume_down
    volume_check
    begin "$current"
done
finish
