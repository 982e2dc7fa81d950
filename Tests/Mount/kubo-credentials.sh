#!/usr/bin/env bash
# The node's credentials: where they can be seen, and where they are not sent.
source "$(dirname "$0")/lib.sh"
source "$here/kubo-lib.sh"

secret=not-to-be-seen
export REGISTRYFS_KUBO_AUTH=bearer:$secret
node_up

begin "they are in no environment once the mount is ready"
# unseen PID: the process and its children have them in no environment.
unseen() {
    local pid
    for pid in "$1" $(pgrep -P "$1" || :); do
        ! grep -q "$secret" "/proc/$pid/environ" || fail "process $pid has them"
    done
}
node_mount
unseen "$(daemon_pid)"
publish
volume_down
"$registryfs" mount --foreground --state-dir "$state" --kubo "$rpc_address" --mfs-path "$mfs" "$mnt" \
    2>"$work/foreground.log" &
foreground=$!
background+=("$foreground")
wait_for 20 is_mounted "$mnt" || fail "not mounted: $(tail -n 1 "$work/foreground.log")"
unseen "$foreground"
volume_down

begin "they reach the daemon, and the node"
python3 - "$work/heads" "$work/listener" <<'PYTHON' &
import http.server, sys

class Node(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open(sys.argv[1], "a") as heads:
            print(self.headers.get("Authorization"), file=heads)
        self.send_error(403)

server = http.server.HTTPServer(("127.0.0.1", 0), Node)
with open(sys.argv[2], "w") as port:
    print(server.server_port, file=port)
server.serve_forever()
PYTHON
background+=($!)
wait_for 10 test -s "$work/listener" || fail "the listener has no port"
"$registryfs" mount --state-dir "$work/state2" --kubo "127.0.0.1:$(<"$work/listener")" "$mnt"
wait_for 20 test -s "$work/heads" || fail "the node was not asked"
same "Authorization" "Bearer $secret" "$(head -n 1 "$work/heads")"
volume_down

begin "they do not go to another machine in the open, unless that is wished"
if "$registryfs" mount --state-dir "$work/state3" --kubo http://192.0.2.1:5001 "$mnt" 2>"$work/refusal"; then
    fail "they may go over http"
fi
grep -q -- --kubo-auth-over-http "$work/refusal" || fail "$(<"$work/refusal")"
"$registryfs" mount --state-dir "$work/state3" --kubo http://192.0.2.1:5001 --kubo-auth-over-http "$mnt"
volume_down

finish
