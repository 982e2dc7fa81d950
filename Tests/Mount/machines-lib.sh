# What the mount tests of two machines share: this network namespace and another one, joined by a wire, and the registry on the second
# one's mount, of state directory $far_state at $far. Sourced after lib.sh, never run.

# Addresses for documentation, which count as public: nothing here needs --pull-through-insecure.
here_address=192.0.2.1
there_address=192.0.2.2
far=$work/far
far_state=$work/state-far
mkdir "$far"

ip link add first type veth peer name second
unshare --net sleep infinity &
there_pid=$!
background+=("$there_pid")
is_apart() { [[ $(readlink "/proc/$there_pid/ns/net") != $(readlink /proc/self/ns/net) ]]; }
wait_for 10 is_apart || fail "no second network"
ip link set second netns "$there_pid"
ip address add "$here_address/30" dev first
ip link set first up
there() { nsenter --net --target "$there_pid" -- "$@"; }
there ip address add "$there_address/30" dev second
there ip link set second up
there ip link set lo up

far_registry_up() {
    # Not by a function: what ends is to be the registry itself, and no shell above it.
    REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$far REGISTRY_HTTP_ADDR=127.0.0.1:5000 \
        nsenter --net --target "$there_pid" -- docker-registry serve "$top/Mount/registry.yml" \
        >>"$work/far.log" 2>&1 </dev/null &
    far_registry=$!
    background+=("$far_registry")
    wait_for 20 far_answers || fail "the second registry does not answer: $(tail -n 1 "$work/far.log")"
}
far_answers() { there curl -fsS -o /dev/null --max-time 5 http://127.0.0.1:5000/v2/ 2>/dev/null; }
far_registry_down() {
    kill "$far_registry"
    wait "$far_registry" || :
}
far_get() { # far_get PATH [OPTION...]: the status, within the time of a look-up or two
    local path=$1
    shift
    there curl -s -o "$work/body" -w '%{http_code}' --max-time 60 \
        -H 'Accept: application/vnd.oci.image.manifest.v1+json' "$@" "http://127.0.0.1:5000/v2/$path" || :
}
far_pull() { # far_pull NAME:TAG DIGEST
    rm -rf "$work/pulled"
    within 60 nsenter --net --target "$there_pid" -- skopeo --insecure-policy copy -q --preserve-digests \
        --src-tls-verify=false "docker://127.0.0.1:5000/$1" "dir:$work/pulled" ||
        fail "$1 does not pull: $(tail -n 2 "$work/far.log" "$far_state/registryfs.log" | tr '\n' ' ')"
    same "digest of $1" "$2" "sha256:$(sha256sum "$work/pulled/manifest.json" | cut -d' ' -f1)"
}
