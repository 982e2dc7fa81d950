#!/usr/bin/env bash
# NFS-Ganesha exports the mount (--file-handles), in namespaces of its own, and a client (libnfs) works in
# it: also when the kernel has dropped its inodes, and when the volume was unmounted and mounted again.
# The kernel's own server is not tested: few kernels of test machines have it.
[[ -n ${REGISTRYFS_TEST_IN_NAMESPACE:-} ]] ||
    REGISTRYFS_TEST_IN_NAMESPACE=1 exec unshare --mount --net --propagation private "$0"
source "$(dirname "$0")/lib.sh"

for program in ganesha.nfsd nfs-ls rpcbind; do
    command -v "$program" >/dev/null || die "no $program"
done
ip link set lo up
# Sockets, locks and what the server remembers of clients stay in here.
for directory in /run /var/lib/nfs; do mount -t tmpfs tmpfs "$directory"; done
mkdir -p /run/rpcbind /var/lib/nfs/ganesha
rpcbind -f &
background+=($!)

cat >"$work/ganesha.conf" <<CONF
NFS_CORE_PARAM { Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFS_KRB5 { Active_krb5 = false; }
NFSv4 { RecoveryBackend = fs; Graceless = true; Lease_Lifetime = 5; }
EXPORT {
    Export_Id = 77; Path = $mnt; Pseudo = /volume; Access_Type = RW; Squash = None;
    Protocols = 4; Transports = TCP; SecType = sys; Filesystem_id = 7.7;
    FSAL { Name = VFS; }
}
CONF
url() { echo "nfs://127.0.0.1/volume/$1?version=4"; }
server_up() {
    ganesha.nfsd -F -f "$work/ganesha.conf" -L "$work/ganesha.log" -p "$work/ganesha.lock" &
    server=$!
    background+=("$server")
    wait_for 30 nfs-ls "$(url '')" >/dev/null 2>&1 ||
        fail "the server does not answer: $(excerpt 'CRIT|FATAL' "$work/ganesha.log")"
}
server_down() {
    kill "$server"
    wait "$server" || :
}
# list DIRECTORY: kinds, sizes and names, in order. content FILE: its first line.
list() { nfs-ls "$(url "$1")" | awk '{ print substr($1, 1, 1), $5, $6 }' | sort; }
content() { nfs-cat "$(url "$1")" | head -n 1; }
seen() { # seen WHAT: what the client sees is what stands on the mount
    same "listing $1" "$(cd "$mnt/dir" && find . -mindepth 1 -maxdepth 1 -printf '%y %s %f\n' |
        sed 's/^f/-/' | sort | tr '\n' ';')" "$(list dir | tr '\n' ';')"
    same "content $1" "first" "$(content dir/file)"
    same "content below $1" "deep" "$(content dir/a/b/c/deep)"
    nfs-cp "$work/sent" "$(url "dir/sent-$1")" >"$work/said" 2>&1 || fail "cannot write $1: $(tail -n 1 "$work/said")"
    cmp "$work/sent" "$mnt/dir/sent-$1" || fail "other bytes were written $1"
}

begin "a client of NFS-Ganesha works in the mount"
head -c 1000 /dev/urandom >"$work/sent" # more in one write this client and this server do not carry, on any disk
volume_up --file-handles
mkdir -p "$mnt/dir/a/b/c"
echo first >"$mnt/dir/file"
echo deep >"$mnt/dir/a/b/c/deep"
chmod -R o+rwX "$mnt"
server_up
seen at-first

begin "and when the kernel has dropped its inodes"
sync -f "$mnt" # of dirty inodes it lets none go
python3 "$here/handles.py" drop
seen after-drop

begin "and when the volume was mounted again"
server_down
volume_again --file-handles
server_up
seen after-mount
server_down
volume_down
volume_check
finish
