# What the scripts of this directory and the mount tests share. Sourced, never run.

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}

# apt_need PACKAGE...: installs the Debian packages that are missing, and only those.
apt_need() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *"ok installed" ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        die "needs these Debian packages and finds no apt-get: ${missing[*]}"
    say "installing: ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { DEBIAN_FRONTEND=noninteractive apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "apt-get could not install: ${missing[*]} (all of its output: $log)"
    fi
    rm -f "$log"
}

need_root() { ((EUID == 0)) || die "needs to be run as root"; }

need_fuse() {
    [[ -c /dev/fuse ]] || modprobe -q fuse 2>/dev/null || :
    [[ -c /dev/fuse ]] || die "no /dev/fuse here: load the fuse module, or give the machine the device"
}

need_swift() {
    command -v swift >/dev/null ||
        die "no swift on PATH: install Swift 6.2 or newer from swift.org, then run this again"
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p')
    [[ $(printf '%s\n6.2\n' "$version" | sort -V | head -n 1) == 6.2 ]] ||
        die "swift on PATH is ${version:-of an unknown version}; 6.2 or newer is needed"
}

# What the build needs besides Swift, and what a mount needs to be of use.
build_packages=(g++ git libc6-dev libcurl4-openssl-dev libfuse3-dev libsqlite3-dev liburing-dev pkg-config)
mount_packages=(attr curl docker-registry fuse3 jq python3 skopeo)

# is_mounted DIRECTORY: looks into the kernel's table, so that a dead mount cannot hang it.
is_mounted() {
    awk -v at="$1" '$5 == at { found = 1 } END { exit !found }' /proc/self/mountinfo
}

# wait_for SECONDS COMMAND...: true as soon as the command is, false when the time is over; that is
# `patience` times as long, where a script has set it.
wait_for() {
    local end=$((SECONDS + $1 * ${patience:-1}))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# The kernel's switch for FUSE over io_uring (Linux 6.14 and later). It is the whole machine's, and
# matters to a mount until that has answered INIT.
ring_switch=/sys/module/fuse/parameters/enable_uring
# Who changes it holds its directory locked (flock(2)) until it is put back, which all mount namespaces
# have. What it was stands in this file meanwhile, so that whoever comes next puts it back where one was
# killed. Unit tests do the same (Tests/FuseSessionTests/RingSwitch.swift).
ring_switch_note=/run/registryfs-enable-uring

# with_ring_switch VALUE COMMAND...: runs a command while the switch is Y or N, and puts it back as it
# was; without that where it cannot be changed. Others who need it wait meanwhile.
with_ring_switch() {
    local value=$1
    shift
    if [[ ! -w $ring_switch ]]; then
        "$@"
        return
    fi
    (
        exec 9<"${ring_switch%/*}"
        flock -w 600 9 || die "another process holds ${ring_switch%/*}: $ring_switch stays as it is"
        before=""
        [[ ! -s $ring_switch_note ]] || before=$(<"$ring_switch_note")
        [[ $before == [YN] ]] || before=$(<"$ring_switch")
        trap 'echo "$before" >"$ring_switch" && : >"$ring_switch_note"' EXIT
        trap 'exit 130' INT TERM HUP
        echo "$before" >"$ring_switch_note"
        echo "$value" >"$ring_switch"
        "$@" 9>&-
    )
}

registry_answers() { curl -fsS -o /dev/null --max-time 2 "http://127.0.0.1:$1/v2/" 2>/dev/null; }

# start_registry ROOT PORT LOG PIDFILE [CONFIG]: Debian's docker-registry on the loopback.
start_registry() {
    local root=$1 port=$2 log=$3 pidfile=$4
    local config=${5:-$(dirname "${BASH_SOURCE[0]}")/registry.yml}
    REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$root REGISTRY_HTTP_ADDR=127.0.0.1:$port \
        setsid docker-registry serve "$config" >>"$log" 2>&1 </dev/null &
    echo $! >"$pidfile"
    disown
    wait_for 20 registry_answers "$port" ||
        die "the registry does not answer on 127.0.0.1:$port: $(tail -n 1 "$log")"
    # Another program may hold the port and answer in its place.
    kill -0 "$(<"$pidfile")" 2>/dev/null ||
        die "the registry did not stay on 127.0.0.1:$port: $(tail -n 1 "$log")"
}

# stop_registry PIDFILE: ends the registry that start_registry started.
stop_registry() {
    local pid
    [[ -s $1 ]] || return 0
    pid=$(<"$1")
    if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == docker-registry ]]; then
        kill "$pid"
        wait_for 10 process_gone "$pid" || kill -9 "$pid"
    fi
    rm -f "$1"
}
# Its first thread may have ended long before the others, which hold its files.
process_gone() {
    [[ ! -e /proc/$1 ]] || {
        [[ $(cut -d' ' -f3 "/proc/$1/stat" 2>/dev/null) == Z ]] &&
            (($(find "/proc/$1/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l) <= 1))
    }
}

# The skopeo options that a registry on the loopback without TLS needs.
skopeo_copy() {
    skopeo --insecure-policy copy --quiet --preserve-digests \
        --src-tls-verify=false --dest-tls-verify=false "$@"
}
