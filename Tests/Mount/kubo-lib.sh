# What the mount tests with a Kubo node share; sourced after lib.sh, never run.
#
# The node is a real one where there is one: at REGISTRYFS_TEST_KUBO (host:port), or made of the
# `ipfs` on PATH, in a temporary repository, on the loopback, without peers. Else it is the tests' own
# double (Tests/KuboDouble); `in_both_nodes` runs a script with the double and then with the real one.

node_name=double
rpc_address=""
node_pid=""
node_directory=$work/node
# A node that starts offline waits for no block that it does not have, but gives no IPNS records either.
node_options=(--offline)

# in_both_nodes: for a script that is to run with the double and with a real node.
in_both_nodes() {
    if [[ -n ${REGISTRYFS_TEST_REAL_KUBO:-} ]]; then
        node_name=kubo
        mode_name=", real Kubo"
    elif [[ -n ${REGISTRYFS_TEST_KUBO:-} ]] || command -v ipfs >/dev/null; then
        REGISTRYFS_TEST_REAL_KUBO=1 "$here/$(basename "$0")" || failed=1
    else
        say "no real Kubo here (no ipfs on PATH): with the double only"
    fi
}
# Faults are the double's alone.
is_double() { [[ $node_name == double ]]; }

node_answers() { curl -fsS -o /dev/null --max-time 2 -X POST "http://$rpc_address/api/v0/version" 2>/dev/null; }

# node_up: starts the node, the same one after the first time, at the same address.
node_up() {
    if is_double; then
        local double=${registryfs%/*}/kubo-double
        [[ -x $double ]] || die "no $double: build it first (swift build -c release --build-tests)"
        [[ -n $rpc_address ]] || rpc_address=127.0.0.1:$(free_port)
        setsid "$double" --port "${rpc_address#*:}" --store "$node_directory" "${node_options[@]}" \
            --control-port-file "$work/control-port" >"$work/node.log" 2>&1 </dev/null &
        node_pid=$!
    elif [[ -n ${REGISTRYFS_TEST_KUBO:-} ]]; then
        rpc_address=$REGISTRYFS_TEST_KUBO
    else
        real_node_up
    fi
    background+=("$node_pid")
    wait_for 30 node_answers || fail "the node does not answer: $(tail -n 3 "$work/node.log")"
}
real_node_up() {
    export IPFS_PATH=$node_directory IPFS_TELEMETRY=off
    if [[ -z $rpc_address ]]; then
        rpc_address=127.0.0.1:$(free_port)
        make_repository "$rpc_address" "$(free_port)"
        # With routing of type none a node that is online takes records and forgets them.
        ((${#node_options[@]} == 0)) || ipfs config Routing.Type none
    fi
    setsid ipfs daemon "${node_options[@]}" --migrate=false >"$work/node.log" 2>&1 </dev/null &
    node_pid=$!
}
# make_repository RPC-ADDRESS GATEWAY-PORT: the repository at IPFS_PATH, of a node on the loopback without peers.
make_repository() {
    ipfs init --empty-repo --profile=unixfs-v1-2025,test >/dev/null
    ipfs config Addresses.API "/ip4/${1%:*}/tcp/${1#*:}"
    ipfs config Addresses.Gateway "/ip4/127.0.0.1/tcp/$2"
    ipfs config --json Addresses.Swarm '[]'
    ipfs config --json Bootstrap '[]'
    ipfs config --json AutoConf.Enabled false
    ipfs config --json DNS.Resolvers '{}'
    ipfs config --json Routing.DelegatedRouters '[]'
    ipfs config --json Ipns.DelegatedPublishers '[]'
    ipfs config --json Plugins.Plugins.telemetry.Disabled true
    ipfs config --json Version.SwarmCheckEnabled false
}
node_kill() { # kill -9
    kill -9 "$node_pid"
    wait_for 10 process_gone "$node_pid" || fail "the node outlives kill -9"
    # A node that was killed leaves these, and waits for nobody.
    rm -f "$node_directory/repo.lock" "$node_directory/api"
}

# rpc CALL [QUERY] [CURL OPTION...]: the reply of one call.
rpc() {
    local call=$1 query=${2:-}
    shift $(($# > 1 ? 2 : 1))
    curl -fsS -X POST --max-time 120 "$@" "http://$rpc_address/api/v0/$call?$query"
}
mfs_hash() { rpc files/stat "arg=$1" | jq -r .Hash; }
# control METHOD PATH [BODY]: tells the double what goes wrong.
control() {
    curl -fsS --max-time 10 -X "$1" "http://127.0.0.1:$(<"$work/control-port")/double/$2" \
        ${3:+--data-binary "$3"}
}

mfs=/registryfs/test
node_mount() { # node_mount [OPTION...]: mounts $state at $mnt, publishing to the node
    volume_up --kubo "$rpc_address" --mfs-path "$mfs" --publish-interval 1 "$@"
}
publish() {
    "$registryfs" sync --timeout 60 "$mnt" >/dev/null || fail "sync failed"
}
root_cid() { getfattr --only-values -n ipfs.cid "${1:-$mnt}" 2>/dev/null; }
