# Container engines of the mount tests, which pull registry.example/NAME from the server at $server. Sourced after lib.sh, never run.

mkdir -p "$work/conf" "$work/run" "$work/.config/containers"
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$work/conf/policy.json"
podman_of() {
    within 120 podman --root "$work/podman" --runroot "$work/run" --storage-driver vfs "$@"
}
podman_pull() { # podman_pull NAME:TAG
    podman_of pull -q --signature-policy "$work/conf/policy.json" "registry.example/$1" >"$work/pulled" 2>&1 ||
        fail "podman: $1: $(tail -n 1 "$work/pulled")"
}

containerd_up() { # a containerd of its own, for ctr_of and containerd_fetch
    mkdir -p "$work/certs.d/registry.example" "$work/containerd"
    cat >"$work/certs.d/registry.example/hosts.toml" <<CONF
server = "https://registry.example"

[host."http://$server"]
  capabilities = ["pull", "resolve"]
CONF
    cat >"$work/containerd.toml" <<CONF
version = 2
root = "$work/containerd/root"
state = "$work/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
  address = "$work/containerd/socket"
CONF
    setsid containerd --config "$work/containerd.toml" >"$work/containerd.log" 2>&1 </dev/null &
    background+=("$!")
    wait_for 30 ctr_of version >/dev/null 2>&1 || fail "no containerd: $(tail -n 2 "$work/containerd.log")"
}
ctr_of() { within 60 ctr --address "$work/containerd/socket" "$@"; }
containerd_fetch() { # containerd_fetch NAME:TAG
    ctr_of content fetch --all-platforms --hosts-dir "$work/certs.d" "registry.example/$1" >"$work/fetched" 2>&1 ||
        fail "containerd: $1: $(tail -n 1 "$work/fetched")"
}
