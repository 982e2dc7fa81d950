#!/usr/bin/env bash
# The stock registry in a container, with the mount bind-mounted into it: once mounted before the
# container starts, once after it (through the parent directory, with rslave propagation).
source "$(dirname "$0")/lib.sh"

# Everything of podman stays below the work directory. A container image is made of Debian's
# registry and the libraries that it needs; nothing is downloaded.
engine() {
    podman --root "$work/podman" --runroot "$work/podman-run" --tmpdir "$work/podman-tmp" \
        --storage-driver vfs \
        --runtime runc --cgroup-manager cgroupfs --events-backend file "$@"
}
import_registry() {
    local tree=$work/tree binary library
    binary=$(command -v docker-registry)
    mkdir -p "$tree/usr/bin" "$tree/etc" "$tree/tmp"
    cp "$binary" "$tree/usr/bin/registry"
    cp "$top/Mount/registry.yml" "$tree/etc/registry.yml"
    ldd "$binary" | grep -o '/[^ ]*' | sort -u | while read -r library; do
        install -D "$library" "$tree$library"
    done
    tar -C "$tree" -c . | engine import --quiet \
        --change 'ENTRYPOINT ["/usr/bin/registry"]' \
        --change 'CMD ["serve", "/etc/registry.yml"]' - registry-test >/dev/null
}
container_up() { # container_up VOLUME-OPTION ROOT
    port=$(free_port)
    engine run --detach --name registry --network host \
        --ulimit nofile=20000:20000 --ulimit nproc=1024:1024 \
        --env REGISTRY_HTTP_ADDR="127.0.0.1:$port" \
        --env REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="$2" \
        --volume "$1" registry-test >/dev/null
}
container_answers() {
    wait_for 20 registry_answers "$port" ||
        fail "the registry in the container does not answer: $(engine logs registry 2>&1 | tail -n 1)"
}
container_down() { engine rm --force --time 5 registry >/dev/null; }
end_container() { engine rm --force --all --time 0 >/dev/null 2>&1; clean_up; }

exec 2>>"$work/errors.log"
trap 'why="line $LINENO: $BASH_COMMAND: $(tail -n 1 "$work/errors.log")"' ERR
import_registry
trap 'end_container' EXIT
digest=$(make_image "$work/image" --layers 5 --bytes 20000000)
other=$(make_image "$work/other" --layers 5 --bytes 20000000 --seed 2)

begin "mounted before the container starts: push and pull"
volume_up
container_up "$mnt:/var/lib/registry" /var/lib/registry
container_answers
push "$work/image" boxed/before:v1
pull boxed/before:v1 "$digest"
[[ -d $mnt/docker/registry/v2/repositories/boxed/before ]] ||
    fail "the container did not write to the mount"
container_down
volume_down

begin "mounted after the container starts: push and pull"
# The parent directory is a mount of its own with shared propagation, as /var/lib may be or not be.
parent=$work/parent
mkdir -p "$parent"
mount --bind "$parent" "$parent"
mount --make-shared "$parent"
mkdir "$parent/registry"
mnt=$parent/registry
container_up "$parent:/srv:rslave" /srv/registry
container_answers
volume_up
pull boxed/before:v1 "$digest"
push "$work/other" boxed/after:v1
pull boxed/after:v1 "$other"
[[ -d $mnt/docker/registry/v2/repositories/boxed/after ]] ||
    fail "the container did not write to the mount"

begin "unmounted and mounted again under the running container"
volume_again
pull boxed/after:v1 "$other"
container_down
volume_down
volume_check
finish
