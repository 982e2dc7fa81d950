#!/usr/bin/env bash
# The systemd units of Mount/, as Mount/install brings them, run by systemd itself: a second one, as the first
# process of namespaces of its own, with nothing but these units and the targets that they hang on.
# Addresses and ports are fixed: the network has to be its own, whatever node others are tested with.
unset REGISTRYFS_TEST_KUBO
source "$(dirname "$0")/lib.sh"

patience=2
[[ -x $top/.build/release/registryfs || -n ${REGISTRYFS:-} ]] || fail "no release build to install"
root=$work/root
units=$root/etc/systemd/system
base=$work/base
library=$work/lib
mkdir -p "$library" "$base"
rmdir "$state" "$mnt"
state=$library/registryfs
mnt=$library/registry
port=5050

# inside COMMAND...: among the processes and mounts of that systemd.
inside() { nsenter --target "$init" --mount --pid --ipc --uts --cgroup -- "$@"; }
control() { within 60 nsenter --target "$init" --mount --pid --ipc --uts --cgroup -- systemctl "$@"; }
property() { control show --value --property "$2" "$1"; }
is_active() { [[ $(property "$1" ActiveState) == active ]]; }
# up UNIT...: starts them, and tells what a failed one said.
up() { control start "$@" || fail "$*: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"; }
mounted_inside() { awk -v at="$1" '$5 == at { found = 1 } END { exit !found }' "/proc/$init/mountinfo"; }
began() { property "$1" ActiveEnterTimestampMonotonic; }
crash() { # the daemon of registryfs.service, which answers nobody any more
    local pid
    pid=$(pgrep --ns "$init" --nslist pid -f 'registryfs mount' | head -n 1)
    kill -9 "$pid"
    wait_for 10 process_gone "$pid" || fail "the daemon ($pid) outlives kill -9"
}

begin "the units are installed, and are what systemd expects"
if [[ -x $top/.build/release/registryfs ]]; then
    DESTDIR=$root "$top/Mount/install" 2>/dev/null
else
    # The program under test lies elsewhere.
    mkdir -p "$work/tree/.build/release"
    cp -r "$top/Mount" "$work/tree/"
    cp "$registryfs" "$work/tree/.build/release/"
    DESTDIR=$root "$work/tree/Mount/install" 2>/dev/null
fi
cp "$registryfs" "$root/usr/local/bin/registryfs"
cp -r "$root"/usr/local/share/registryfs/drop-ins/{registryfs,docker-registry}.service.d "$units/"
if node=$(command -v ipfs); then
    cp "$node" "$root/usr/local/bin/ipfs"
else
    cp "${registryfs%/*}/kubo-double" "$root/usr/local/bin/"
    cat >"$root/usr/local/bin/ipfs" <<'END'
#!/bin/sh
case $1 in
init) : >"$IPFS_PATH/config" ;;
config) ;;
daemon)
    /usr/local/bin/kubo-double --port 5001 --store "$IPFS_PATH/store" --offline &
    trap "kill $!" INT TERM
    until curl -fsS -o /dev/null -X POST http://127.0.0.1:5001/api/v0/version; do sleep 0.1; done
    systemd-notify --ready
    wait
    ;;
esac
END
    chmod 755 "$root/usr/local/bin/ipfs"
    # The program is no child's parent: systemd-notify speaks for it.
    mkdir "$units/registryfs-kubo.service.d"
    printf '[Service]\nNotifyAccess=all\n' >"$units/registryfs-kubo.service.d/test.conf"
fi
# Of the machine's own units only what ours hang on: the others would work on this machine.
for unit in basic multi-user network network-online shutdown sockets sysinit umount paths timers slices local-fs remote-fs final; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' "$unit" >"$base/$unit.target"
done
cp /lib/systemd/system/{docker-registry.service,exit.target,systemd-exit.service} "$base/"
ln -s systemd.log "$work/registry.log"
# There is no journal: what services say goes where their manager speaks.
mkdir "$base/service.d"
printf '[Service]\nStandardOutput=append:%s\nStandardError=inherit\n' "$work/systemd.log" >"$base/service.d/log.conf"
cat >"$work/start" <<END
set -e
# As the first systemd of a machine leaves it.
mount --make-rshared /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
# The network is the test's own, and podman sets up its.
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$library" /var/lib
mount --bind "$root/usr/local/bin" /usr/local/bin
mount --bind "$root/usr/local/share" /usr/local/share
mount --bind "$units" /etc/systemd/system
umount --lazy --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/system
export container=other SYSTEMD_UNIT_PATH=/etc/systemd/system:$base SYSTEMD_GENERATOR_PATH=$work/none
exec /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
END
unshare --fork --kill-child --pid --mount --ipc --uts --cgroup --propagation private \
    bash "$work/start" >"$work/systemd.log" 2>&1 </dev/null &
outer=$!
# It takes no notice of a lesser signal, and what it began ends with it.
end_systemd() {
    local status=$?
    kill -9 "$outer" 2>/dev/null && wait "$outer" 2>/dev/null || :
    trap - ERR
    set +e
    (exit "$status")
    clean_up
}
trap end_systemd EXIT
is_up() { init=$(pgrep --parent "$outer") && [[ $(cat "/proc/$init/comm") == systemd ]] && control is-active --quiet basic.target; }
wait_for 20 is_up 2>/dev/null || fail "systemd does not start: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"
for unit in registryfs-kubo.service registryfs.service docker-registry.service registryfs-registry.service \
    registryfs-serve.socket registryfs-serve.service "registryfs@srv-images.service"; do
    inside env SYSTEMD_UNIT_PATH="/etc/systemd/system:$base" systemd-analyze verify --man=no "$unit" >"$work/verify" 2>&1 ||
        fail "$unit: $(tail -n 2 "$work/verify" | tr '\n' ' ')"
    [[ ! -s $work/verify ]] || fail "$unit: $(tail -n 2 "$work/verify" | tr '\n' ' ')"
done

begin "node, mount and registry start in this order, and an image goes in and out"
control --quiet enable registryfs-kubo.service registryfs.service docker-registry.service
up multi-user.target
for unit in registryfs-kubo registryfs docker-registry; do
    wait_for 20 is_active "$unit.service" || fail "$unit: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"
done
same "order" "$(printf '%s\n' "$(began registryfs-kubo)" "$(began registryfs)" "$(began docker-registry)" | sort -n)" \
    "$(printf '%s\n' "$(began registryfs-kubo)" "$(began registryfs)" "$(began docker-registry)")"
mounted_inside /var/lib/registry || fail "nothing is mounted"
wait_for 20 registry_answers "$port" || fail "the registry does not answer: $(tail -n 3 "$work/systemd.log")"
digest=$(make_image "$work/image" --layers 3 --bytes 4000000)
push "$work/image" boxed/first:v1
pull boxed/first:v1 "$digest"
published=$(inside registryfs sync)
root_cid=$(inside registryfs cid /var/lib/registry)
same "what the node has" "$root_cid" "$published"

begin "the daemon is killed: mount and registry come back"
crash
# Files are opened for it: a listing may come out of the kernel's memory, whatever became of the daemon.
first_is_back() {
    curl -fs -o /dev/null --max-time 5 -H "Accept: application/vnd.oci.image.manifest.v1+json" \
        "http://127.0.0.1:$port/v2/boxed/first/manifests/v1"
}
wait_for 20 first_is_back || fail "they do not come back: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"
pull boxed/first:v1 "$digest"

begin "the node ends: mount and registry stay"
control stop registryfs-kubo.service
pull boxed/first:v1 "$digest"
up registryfs-kubo.service

begin "the volume is served by the socket's unit"
up registryfs-serve.socket
(
    port=8080
    pull boxed/first:v1 "$digest"
)
same "user of the server" nobody "$(inside ps -o user= -C registryfs | sort -u | grep -v root)"

begin "a server of a root alone"
mkdir -p "$units/far.service.d"
sed "s|/ipns/NAME|$root_cid|; s|https://GATEWAY|http://127.0.0.1:8080|" \
    "$root/usr/local/share/registryfs/drop-ins/registryfs-serve.service.d/from.conf" >"$units/far.service.d/from.conf"
# Beside the first, whose content it gets: the same units under other names, at another port.
sed 's/registryfs-serve.socket/far.socket/' "$units/registryfs-serve.service" >"$units/far.service"
sed 's/8080/8081/' "$units/registryfs-serve.socket" >"$units/far.socket"
control daemon-reload
up far.socket
(
    port=8081
    pull boxed/first:v1 "$digest"
)
control stop far.socket far.service registryfs-serve.socket registryfs-serve.service

begin "the mount ends: the registry ended before, and does not start without it"
control stop registryfs.service
! mounted_inside /var/lib/registry || fail "still mounted"
! is_active docker-registry.service || fail "the registry runs without its mount"
! registry_answers "$port" || fail "the registry answers"
same "below the mount point" "" "$(ls -A "$mnt")"
volume_check

begin "the registry in a container runs as long as the mount"
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
END
mkdir "$units/registryfs-registry.service.d"
printf '[Service]\nEnvironment=IMAGE=localhost/registry:test CONTAINERS_CONF=%s\n' "$work/containers.conf" \
    >"$units/registryfs-registry.service.d/test.conf"
"$top/Mount/container-image" "$work/registry.tar" --name localhost/registry:test --program "$(command -v docker-registry)" \
    --file "$top/Mount/registry.yml=/etc/registry.yml" \
    --config '{"Entrypoint":["/usr/bin/docker-registry","serve","/etc/registry.yml"]}' 2>/dev/null
inside env CONTAINERS_CONF="$work/containers.conf" podman load --quiet --input "$work/registry.tar" >/dev/null
control --quiet disable docker-registry.service
control --quiet enable registryfs-registry.service
up registryfs.service
# What the registry before this one wrote as its own user.
inside chown -R root: /var/lib/registry/docker
wait_for 20 first_is_back || fail "the registry does not answer: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"
pull boxed/first:v1 "$digest"
crash
wait_for 20 first_is_back || fail "they do not come back: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"
pull boxed/first:v1 "$digest"
control stop registryfs.service
! mounted_inside /var/lib/registry || fail "still mounted"
! registry_answers "$port" || fail "the registry answers"
same "below the mount point" "" "$(ls -A "$mnt")"

begin "an instance is a mount of its own"
mkdir "$library/second"
up registryfs@var-lib-second.service
mounted_inside /var/lib/second || fail "nothing is mounted"
inside sh -c 'echo content >/var/lib/second/file'
control stop registryfs@var-lib-second.service
! mounted_inside /var/lib/second || fail "still mounted"
[[ -s $library/registryfs@var-lib-second/manifest.sqlite ]] || fail "no state directory of its own"

begin "the machine is shut down: everything is durable"
up registryfs.service
wait_for 20 first_is_back || fail "the registry was not started with the mount"
make_image "$work/last" --layers 2 --bytes 2000000 --seed 3 >"$work/last.digest"
push "$work/last" boxed/last:v1
control --no-block start exit.target
wait_for 30 process_gone "$outer" || fail "it does not end: $(tail -n 3 "$work/systemd.log" | tr '\n' ' ')"
volume_check
mkdir -p "$mnt"
volume_up
[[ -d $mnt/docker/registry/v2/repositories/boxed/last/_manifests/tags/v1 ]] || fail "the last image is not there"
volume_down
finish
