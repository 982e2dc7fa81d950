#!/usr/bin/env bash
# Wrong use: each time a non-zero exit and exactly one clear line on standard error.
source "$(dirname "$0")/lib.sh"

# one_line NAME PATTERN COMMAND...: the command fails, and its one line matches the pattern.
one_line() {
    local name=$1 pattern=$2 status=0 lines
    shift 2
    within 30 "$@" >"$work/output" 2>"$work/error" </dev/null || status=$?
    lines=$(grep -c '' "$work/error" || true)
    if ((status == 0)); then
        result "$name" "it succeeded"
    elif ((status == 124)); then
        result "$name" "it did not end"
    elif ((status >= 125)); then
        result "$name" "it died with status $status: $(head -n 1 "$work/error")"
    elif ((lines != 1)); then
        result "$name" "$lines lines instead of one: $(head -n 3 "$work/error" | tr '\n' '|')"
    elif ! grep -qiE -- "$pattern" "$work/error"; then
        result "$name" "the line says nothing of '$pattern': $(<"$work/error")"
    elif is_mounted "$mnt" && [[ -z ${mounted:-} ]]; then
        result "$name" "it mounted all the same"
        umount "$mnt"
    else
        result "$name" ""
    fi
}
mount_at=("$registryfs" mount --state-dir "$state")
export registryfs state mnt work

# Another user must be able to run the program, wherever the tree is.
cp "$registryfs" "$work/registryfs"
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp)
# A script after this runs in a mount namespace of its own, so that the machine stays as it is.
in_hidden=(unshare --mount --propagation private bash -c)

current="wrong use"
mounted=""
one_line "no mount point given" "mountpoint|mount point|argument" "$registryfs" mount
one_line "mount point missing" "$work/missing" "${mount_at[@]}" "$work/missing"
touch "$work/file"
one_line "mount point is a file" "directory" "${mount_at[@]}" "$work/file"
mkdir "$work/full"
touch "$work/full/something"
one_line "mount point not empty" "empty" "${mount_at[@]}" "$work/full"
one_line "unknown option" "--no-such-option" "${mount_at[@]}" --no-such-option "$mnt"
one_line "unknown mount option" "nosuchoption" "${mount_at[@]}" -o nosuchoption "$mnt"
one_line "unknown command" "frobnicate" "$registryfs" frobnicate
one_line "unknown profile" "unixfs-v9" "${mount_at[@]}" --profile unixfs-v9 "$mnt"
one_line "unmount of what is not mounted" "$mnt" "$registryfs" unmount "$mnt"
one_line "unmount of a mount of another filesystem" "/proc" "$registryfs" unmount /proc

one_line "no /dev/fuse" "/dev/fuse" "${in_hidden[@]}" '
    mount -t tmpfs none /dev
    for node in "null 3" "zero 5" "random 8" "urandom 9"; do mknod -m 666 /dev/${node% *} c 1 ${node#* }; done
    "$registryfs" mount --state-dir "$state" "$mnt"'
mkdir -m 755 "$work/theirs" "$work/theirs/state" "$work/theirs/mnt" "$work/upper" "$work/overlay" \
    "$work/device"
chown -R 65534:65534 "$work/theirs"
as_nobody_text="${as_nobody[*]}"
export as_nobody_text
one_line "not root, without fusermount3" "fusermount3|root" "${in_hidden[@]}" '
    # As udev makes it; without udev others could not even open it.
    mount -t tmpfs none "$work/device"
    mknod -m 666 "$work/device/fuse" c 10 229
    mount --bind "$work/device/fuse" /dev/fuse
    directory=$(dirname "$(command -v fusermount3)")
    mount -t overlay -o "lowerdir=$directory,upperdir=$work/upper,workdir=$work/overlay" none "$directory"
    rm -f "$directory/fusermount3" "$directory/fusermount"
    $as_nobody_text "$work/registryfs" mount --state-dir "$work/theirs/state" "$work/theirs/mnt"'
mkdir -m 700 "$work/roots"
one_line "state directory of another user" "$work/roots|ermission" \
    "${as_nobody[@]}" "$work/registryfs" mount --state-dir "$work/roots/state" "$work/theirs/mnt"
one_line "state directory on a read-only filesystem" "[Rr]ead-only|writable|write" "${in_hidden[@]}" '
    mkdir -p "$work/read-only"
    mount -t tmpfs -o ro none "$work/read-only"
    "$registryfs" mount --state-dir "$work/read-only/state" "$mnt"'
one_line "state directory is a file" "$work/file" "$registryfs" mount --state-dir "$work/file" "$mnt"
one_line "resolve of what is no name" "dot" "$registryfs" resolve nonsense
one_line "resolve of a domain without a server" "127.0.0.1:1\\b" \
    "$registryfs" resolve example.org --dns 127.0.0.1:1
one_line "resolve of a key, and nobody to ask" "gateway" \
    "$registryfs" resolve k51qzi5uqu5dg9ufswxt229ntzdy7p4125xzv5rtyjso89ajdujg6csfxcj260
one_line "resolve of a CID of content behind /ipns/" "dag-pb" \
    "$registryfs" resolve /ipns/bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354
one_line "a name server that is none" "name server" "$registryfs" resolve example.org --dns example.org
one_line "a key in a state directory that is not there" "$work/nowhere" \
    "$registryfs" key generate --state-dir "$work/nowhere"
one_line "serve where nothing was mounted" "mount it first|no state directory" \
    "$registryfs" serve --state-dir "$work/none"
one_line "serve at what is no address" "host:port" "$registryfs" serve --listen nowhere --from "$work/none.car"
one_line "serve of a certificate without its key" "tls-key" "$registryfs" serve --tls-cert "$work/file"
one_line "serve as root" "root is not for serving" "$registryfs" serve --user root --listen 127.0.0.1:0 \
    --gateway http://127.0.0.1:1 --from bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354
one_line "serve of a tree that nobody has" "gateway" \
    "$registryfs" serve --from bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354 --listen 127.0.0.1:0
one_line "publish of what is on no mount" "$work/file" "$registryfs" publish "$work/file"
one_line "check of a state directory that is not there" "$work/nowhere" \
    "$registryfs" check --state-dir "$work/nowhere"
one_line "snapshots of a state directory that is not there" "$work/nowhere" \
    "$registryfs" snapshot list --state-dir "$work/nowhere"
one_line "snapshots each hour of what cannot be changed" "read-only" \
    "${mount_at[@]}" --snapshot-every 1h --read-only "$mnt"
one_line "snapshots each hour with a number that is none" "snapshot-keep-daily" \
    "${mount_at[@]}" --snapshot-every 1h --snapshot-keep-daily 0 "$mnt"
one_line "snapshots that are kept, and none that are made" "snapshot-every" \
    "${mount_at[@]}" --snapshot-keep-last 3 "$mnt"
one_line "pull-through of what is no domain" "example\.com" "${mount_at[@]}" --pull-through localhost "$mnt"
one_line "pull-through of an address" "127\.0\.0\.1" "${mount_at[@]}" --pull-through 127.0.0.1 "$mnt"
one_line "pull-through into what cannot be changed" "read-only" \
    "${mount_at[@]}" --pull-through '*' --read-only "$mnt"
one_line "pull-through for times that are none" "30s..1h" \
    "${mount_at[@]}" --pull-through '*' --pull-through-ttl 1h "$mnt"
one_line "grafts where nothing is mounted" "mount" "$registryfs" grafts
one_line "import-car into a state directory that is not there" "$work/nowhere" \
    "$registryfs" import-car "$work/file" --state-dir "$work/nowhere"
one_line "import-car into what is no mount" "$work/full" "$registryfs" import-car "$work/file" "$work/full"
one_line "export-car to standard output as JSON" "json" "$registryfs" export-car -o - --json "$mnt"

volume_up
mounted=1
echo content >"$mnt/file"
"$registryfs" export-car "$mnt/file" -o "$work/file-1.car"
cid=$(getfattr --absolute-names -n ipfs.cid --only-values "$mnt/file")
mkdir "$work/second"
pid=$(daemon_pid)
one_line "state directory in use: the line names the process" "\\b$pid\\b" "${mount_at[@]}" "$work/second"
one_line "mount point busy: mounted already" "mounted|busy|in use" \
    "$registryfs" mount --state-dir "$work/other-state" "$mnt"
one_line "check while it is mounted" "\\b$pid\\b|mounted|in use" "$registryfs" check --state-dir "$state"
one_line "unmount while a file is open" "busy|in use" bash -c '
    exec 3<"$mnt/file"
    "$registryfs" unmount "$mnt"'
one_line "cid of a missing path" "$mnt/missing" "$registryfs" cid "$mnt/missing"
one_line "cid of a path outside of every mount" "$work/file" "$registryfs" cid "$work/file"
one_line "inspect of a missing path" "$mnt/missing" "$registryfs" inspect "$mnt/missing"
one_line "block of what is not a CID" "bafynonsense" "$registryfs" block --state-dir "$state" bafynonsense
one_line "block of a CID that is not here" "no such block|not found" \
    "$registryfs" block --state-dir "$state" bafkreia7tzxs33fcfgtfvvyc5qz6tkrarhzhqxgmuxwhtc6yxqm6vmr4ie
one_line "export-car to a directory that is missing" "$work/missing" \
    "$registryfs" export-car --state-dir "$state" "$cid" -o "$work/missing/file.car"
one_line "export-car of a missing path" "$mnt/missing" \
    "$registryfs" export-car "$mnt/missing" -o "$work/file.car"
[[ ! -e $work/file.car ]] && result "a failed export leaves no file" "" ||
    result "a failed export leaves no file" "it left one"
"$registryfs" snapshot create known >"$work/name"
one_line "a snapshot's name that is taken" "known" "$registryfs" snapshot create known
one_line "a snapshot's name that is none" "a/b" "$registryfs" snapshot create a/b
one_line "a snapshot's message that is too long" "message" \
    "$registryfs" snapshot create --message "$(head -c 5000 /dev/zero | tr '\0' m)"
one_line "show of a snapshot that is not there" "unknown" "$registryfs" snapshot show unknown
one_line "delete of a snapshot that is not there" "unknown" "$registryfs" snapshot delete known unknown
one_line "diff with a snapshot that is not there" "unknown" "$registryfs" snapshot diff known unknown
one_line "diff with a CID of a file" "$cid" "$registryfs" snapshot diff known "$cid"
one_line "diff with a CID that is not here" "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354" \
    "$registryfs" snapshot diff known bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354
one_line "restore of a snapshot that is not there" "unknown" "$registryfs" snapshot restore unknown
one_line "restore of a path that neither has" "$mnt/missing|missing" \
    "$registryfs" snapshot restore known "$mnt/missing"
one_line "restore of a path below a file" "file" "$registryfs" snapshot restore known "$mnt/file/below"
one_line "restore of a path on no mount" "$work/file" "$registryfs" snapshot restore known "$work/file"
one_line "restore of a path that leads up" "\.\." "$registryfs" snapshot restore known ../file
one_line "export of a snapshot to a directory that is missing" "$work/missing" \
    "$registryfs" snapshot export known -o "$work/missing/file.car"
one_line "prune without a rule" "keep-last" "$registryfs" snapshot prune
one_line "snapshots at what is no mount" "$work/file" "$registryfs" snapshot list --at "$work/file"
"$registryfs" snapshot delete known >"$work/name"
one_line "a domain's graft without pull-through" "pull-through" "$registryfs" grafts add a.example
one_line "a tree's grafts without pull-through" "pull-through" \
    "$registryfs" grafts add bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354
one_line "a graft that is not there is not removed" "none.example" "$registryfs" grafts remove none.example
one_line "a graft that is not there is not pinned" "none.example" "$registryfs" grafts pin none.example
one_line "a graft that is not there is not refreshed" "none.example|pull-through" "$registryfs" grafts refresh none.example
one_line "grafts at what is no mount" "$work/file" "$registryfs" grafts --at "$work/file"
one_line "import-car of what is no CAR file" "$work/file" "$registryfs" import-car "$work/file"
one_line "import-car of a file that is not there" "$work/missing" "$registryfs" import-car "$work/missing.car"
one_line "import-car to a path that is taken" "exists" "$registryfs" import-car "$work/file-1.car" --at file
one_line "sources for a mount that has its own" "own sources" \
    "$registryfs" export-car "$mnt" --car "$work/file" -o "$work/file.car"
one_line "publish with a key that is not there" "key generate" "$registryfs" publish --key none "$mnt"
one_line "publish for a time that is none" "lifetime" "$registryfs" publish --lifetime soon "$mnt"
one_line "publish of a domain without a registry" "no registry in" "$registryfs" publish --offline --domain a.example "$mnt"
one_line "export of files without a registry" "no registry in" "$registryfs" export-static '*' "$mnt"
one_line "export of files of what is on no mount" "is not on a mount" "$registryfs" export-static '*' "$work"
one_line "publish of a CID for ever" "watch" "$registryfs" publish --watch "$cid"
one_line "a key of another kind" "RSA" bash -c '
    openssl genrsa -traditional -out "$work/rsa" 2048 2>"$work/ignored" || exit 0
    "$registryfs" key import rsa "$work/rsa"'
one_line "a key of a name that is none" "name" "$registryfs" key generate ../key
"$registryfs" key generate open >"$work/name"
chmod 644 "$state/keys/open.key"
one_line "a key that others can read" "chmod 600" "$registryfs" key list
chmod 777 "$state/keys"
one_line "keys that others can change" "chmod o-w" "$registryfs" key list
rm -r "$state/keys"
same "what is on the mount after all this" content "$(cat "$mnt/file")"
volume_down

mounted=""
# A state directory that a newer version wrote: the version that the database tells is far ahead.
version=$(version_of_state)
version_of_state $((version + 1000)) >"$work/newer"
one_line "state directory of a newer version" "newer|version" "${mount_at[@]}" "$mnt"
one_line "check of a state directory of a newer version" "newer|version" \
    "$registryfs" check --state-dir "$state"
version_of_state "$version" >"$work/newer"

begin "after all wrong use, right use works"
volume_up
same "content" content "$(cat "$mnt/file")"
volume_down
volume_check
finish
