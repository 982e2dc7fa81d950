# For mount tests of trees that come from elsewhere: a gateway (the double), volumes beside each other, and what
# they hold. Sourced after lib.sh.

gateway_double=${registryfs%/*}/gateway-double
[[ -x $gateway_double ]] || die "no $gateway_double: build it first (swift build -c release --build-tests)"

# gateway_up NAME OPTION...: a gateway that serves $work/tree.car; sets ${NAME}_url and ${NAME}_pid.
gateway_up() {
    local name=$1 port
    shift
    port=$(free_port)
    setsid "$gateway_double" --port "$port" --car "$work/tree.car" \
        --control-port-file "$work/$name.control" "$@" >"$work/$name.log" 2>&1 </dev/null &
    printf -v "${name}_pid" %s $!
    background+=("$!")
    printf -v "${name}_url" %s "http://127.0.0.1:$port"
    wait_for 30 grep -q "listens on" "$work/$name.log" || fail "no gateway: $(tail -n 3 "$work/$name.log")"
}
# tree_up NUMBER OPTION...: mounts a new volume; what it is at is $at.
tree_up() {
    at=$work/at-$1
    mkdir -p "$at"
    local directory=$work/state-$1
    shift
    "$registryfs" mount --state-dir "$directory" "$@" "$at"
    is_mounted "$at" || fail "mount returned, and $at is not mounted"
}
tree_down() {
    "$registryfs" unmount "$at"
    "$registryfs" check --state-dir "${at/at-/state-}" >"$work/check" 2>&1 ||
        fail "check is not clean: $(tail -n 3 "$work/check" | tr '\n' ' ')"
}
status_of() { "$registryfs" status --json "$at" | jq -r ".mounts[0]$1"; }
listing() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }
refused() { # refused WORDS COMMAND...
    local words=$1 output
    shift
    ! output=$("$@" 2>&1) || fail "$* succeeded"
    [[ $output == *"$words"* ]] || fail "$*: expected '$words', found: $output"
    same "lines of what it says" 1 "$(wc -l <<<"$output")"
}
