#!/usr/bin/env bash
# Mount/compose.yaml and the files beside it, as they are, with images that are made here: what starts when,
# what is reached from where, what a crash does, and that nothing stays mounted.
# Addresses and ports are fixed: the network has to be its own, whatever node others are tested with.
unset REGISTRYFS_TEST_KUBO
source "$(dirname "$0")/lib.sh"

# Everything of podman stays below the work directory, and in a network and a /run of its own.
mount -t tmpfs -o mode=755 none /run
mkdir /run/lock
cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "$work/networks"
END
export CONTAINERS_CONF=$work/containers.conf
engine=(podman --root "$work/podman" --runroot "$work/podman-run" --tmpdir "$work/podman-tmp"
    --storage-driver vfs --network-config-dir "$work/networks")
engine() { "${engine[@]}" "$@"; }
# compose FILE... -- COMMAND...: the reference program, which speaks with podman.
compose() {
    local files=()
    while [[ $1 != -- ]]; do
        files+=(-f "$top/Mount/$1")
        shift
    done
    within 30 env DOCKER_HOST="unix://$work/podman.sock" docker-compose --project-name "$project" \
        "${files[@]}" "${@:2}" >>"$work/compose.log" 2>&1 ||
        fail "docker-compose ${*:2}: $(excerpt 'rror.*' "$work/compose.log")"
}
end_containers() {
    local status=$?
    trap - ERR
    set +e
    engine rm --force --all --time 0 >/dev/null 2>&1
    (exit "$status")
    clean_up
}
# The function of lib.sh, with what the containers said last.
fail() {
    local name
    why="$*"
    for name in $(engine ps --all --format '{{.Names}}'); do
        why+=" [$name: $(engine logs --tail 2 "$name" 2>&1 | tr '\n' ' ')]"
    done
    exit 1
}
container() { echo "${project}_$1_1"; }
# What a service manager's timers do elsewhere.
look_after_health() {
    local name
    while sleep 0.5; do
        for name in $(engine ps --format '{{.Names}}'); do
            timeout 10 "${engine[@]}" healthcheck run "$name" >/dev/null 2>&1 || :
        done
    done
}
state_of() { engine inspect --format "$2" "$(container "$1")"; }
is_healthy() { [[ $(state_of "$1" '{{.State.Health.Status}}') == healthy ]]; }
image() { # image NAME ARGUMENT...
    "$top/Mount/container-image" "$work/$1.tar" --name "localhost/$1:test" "${@:2}" 2>/dev/null
    engine load --quiet --input "$work/$1.tar" >/dev/null
    rm "$work/$1.tar"
}

exec 2>>"$work/errors.log"
trap 'why="line $LINENO: $BASH_COMMAND: $(tail -n 1 "$work/errors.log")"' ERR
trap end_containers EXIT
project=whole
# As a host that systemd started has it.
mkdir "$work/mounts"
mount --bind "$work/mounts" "$work/mounts"
mount --make-shared "$work/mounts"
mkdir -m 555 "$work/mounts/registry"
mnt=$work/mounts/registry
port=$(free_port)
serve_port=$(free_port)
export REGISTRYFS_STATE=$state REGISTRYFS_MOUNTS=$work/mounts REGISTRY_PORT=$port SERVE_PORT=$serve_port
export KUBO_IMAGE=localhost/kubo:test REGISTRYFS_IMAGE=localhost/registryfs:test REGISTRY_IMAGE=localhost/registry:test
digest=$(make_image "$work/image" --layers 3 --bytes 4000000)
other=$(make_image "$work/other" --layers 3 --bytes 4000000 --seed 2)

begin "images are made without a network"
image registryfs --program "$registryfs"
image registry --program "$(command -v docker-registry)" --file "$top/Mount/registry.yml=/etc/registry.yml" \
    --config '{"Entrypoint":["/usr/bin/docker-registry","serve","/etc/registry.yml"]}'
if node=$(command -v ipfs); then
    cat >"$work/start-node" <<'END'
export IPFS_PATH=/data/ipfs
test -e $IPFS_PATH/config || /usr/bin/ipfs init --empty-repo --profile=test
/usr/bin/ipfs config Addresses.API /ip4/0.0.0.0/tcp/5001
/usr/bin/ipfs config --json Addresses.Swarm '[]'
exec /usr/bin/ipfs daemon --offline
END
    image kubo --program "$node" --file "$work/start-node=/start-node" \
        --config '{"Entrypoint":["/bin/sh","/start-node"]}'
else
    # The first process of a container gets no signal that it does not ask for.
    cat >"$work/start-node" <<'END'
/usr/bin/kubo-double --host 0.0.0.0 --port 5001 --store /data/ipfs --offline &
trap "kill $!" TERM
wait
END
    image kubo --program "${registryfs%/*}/kubo-double" --file "$work/start-node=/start-node" \
        --config '{"Entrypoint":["/bin/sh","/start-node"]}'
fi
"${engine[@]}" system service --time 0 "unix://$work/podman.sock" >"$work/podman.log" 2>&1 &
background+=("$!")
wait_for 10 test -S "$work/podman.sock" || fail "podman does not listen: $(tail -n 1 "$work/podman.log")"
look_after_health &
background+=("$!")

begin "each starts when what it needs is healthy"
compose compose.yaml -- up -d
for service in kubo registryfs registry; do
    wait_for 20 is_healthy "$service" || fail "$service is not healthy"
done
seconds() { date --date "$(sed 's/ [A-Z]*$//' <<<"$1")" +%s.%N; }
before=0
for service in kubo registryfs registry; do
    started=$(seconds "$(state_of "$service" '{{.State.StartedAt}}')")
    healthy=$(state_of "$service" '{{json .State.Health.Log}}' | jq -r 'first(.[] | select(.ExitCode == 0)).Start')
    [[ $(sort -g <<<"$before"$'\n'"$started" | tail -n 1) == "$started" ]] || fail "$service started too early"
    before=$(seconds "$healthy")
done
is_mounted "$mnt" || fail "the mount does not appear on the host"

begin "push and pull, and the tree is at the node"
push "$work/image" boxed/first:v1
pull boxed/first:v1 "$digest"
root=$(engine exec "$(container registryfs)" registryfs sync)
engine exec "$(container registryfs)" wget -q -O- --post-data= \
    "http://kubo:5001/api/v0/files/stat?arg=/registryfs/main" | grep -q "$root" || fail "the node has another tree"

begin "the registry alone is reached from outside, on the loopback, and does not reach the node"
same "published ports" "5000/tcp -> 127.0.0.1:$port" "$(engine port --all | cut -f2)"
address=$(state_of kubo '{{json .NetworkSettings.Networks}}' | jq -r '.whole_node.IPAddress')
[[ $address == *.*.*.* ]] || fail "the node has no address: $address"
within 10 "${engine[@]}" exec "$(container registryfs)" wget -q -O /dev/null --post-data= "http://$address:5001/api/v0/version" ||
    fail "the mount does not reach the node at $address"
for place in kubo "$address"; do
    ! timeout 10 "${engine[@]}" exec "$(container registry)" wget -q -O /dev/null --post-data= "http://$place:5001/api/v0/version" ||
        fail "the registry reaches the node at $place"
done

begin "the daemon is killed: the mount comes back under the registry"
daemon=$(state_of registryfs '{{.State.Pid}}')
kill -9 "$daemon"
wait_for 10 process_gone "$daemon" || fail "the daemon ($daemon) outlives kill -9"
# Files are opened for it: a listing may come out of the kernel's memory, whatever became of the daemon.
first_is_back() {
    curl -fs -o /dev/null --max-time 5 -H "Accept: application/vnd.oci.image.manifest.v1+json" \
        "http://127.0.0.1:$port/v2/boxed/first/manifests/v1"
}
wait_for 20 first_is_back || fail "the mount does not come back"
pull boxed/first:v1 "$digest"
push "$work/other" boxed/second:v1

begin "where nothing is mounted, a push is an error and nothing lands below the mount point"
compose compose.yaml -- stop registryfs
! is_mounted "$mnt" || fail "still mounted"
! skopeo_copy "oci:$work/image" "docker://127.0.0.1:$port/lost/image:v1" >/dev/null 2>&1 || fail "a push went through"
same "below the mount point" "" "$(ls -A "$mnt")"
compose compose.yaml -- up -d
pull boxed/second:v1 "$other"

begin "a server beside it gives the volume, by its read socket"
compose compose.yaml compose-serve-volume.yaml -- up -d
wait_for 20 is_healthy serve || fail "serve is not healthy"
(
    port=$serve_port
    pull boxed/first:v1 "$digest"
)
same "user of the server" 65534 "$(stat -c %u "/proc/$(state_of serve '{{.State.Pid}}')")"

begin "down: the registry ends first, the mount is gone"
compose compose.yaml compose-serve-volume.yaml -- down
! is_mounted "$mnt" || fail "still mounted"
same "containers" "" "$(engine ps --all --quiet)"
ended=$(engine events --stream=false --filter event=died --format '{{.Name}}' | grep -v serve | tail -n 3 | tr '\n' ' ')
same "order of the ends" "whole_registry_1 whole_registryfs_1 whole_kubo_1 " "$ended"
volume_check

begin "up again: everything is still there"
compose compose.yaml -- up -d
wait_for 20 first_is_back || fail "the registry does not answer"
pull boxed/first:v1 "$digest"
pull boxed/second:v1 "$other"
compose compose.yaml -- down
! is_mounted "$mnt" || fail "still mounted"

begin "a server of a root, without a volume"
# Another machine, for which an address of this one stands.
ip address add 192.0.2.1/32 dev lo
gateway_port=$(free_port)
"$registryfs" mount --state-dir "$state" "$mnt"
setsid "$registryfs" serve --listen "192.0.2.1:$gateway_port" --state-dir "$state" >"$work/gateway.log" 2>&1 </dev/null &
background+=("$!")
project=alone
REGISTRYFS_FROM=$("$registryfs" cid "$mnt")
export REGISTRYFS_FROM REGISTRYFS_GATEWAY=http://192.0.2.1:$gateway_port
compose compose-serve.yaml -- up -d
wait_for 20 is_healthy serve || fail "serve is not healthy"
port=$serve_port
pull boxed/second:v1 "$other"
compose compose-serve.yaml -- down
volume_down
finish
