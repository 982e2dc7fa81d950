#!/usr/bin/env bash
# The storage driver suite of the distribution project, from Debian's packages, with the filesystem
# driver rooted in the mount (it roots itself in TMPDIR).
source "$(dirname "$0")/lib.sh"

suite=github.com/docker/distribution/registry/storage/driver/filesystem
expected=34
export GO111MODULE=off GOPATH=/usr/share/gocode GOFLAGS=
# Compiled once for all runs; only the cache outlives the test.
export GOCACHE=${REGISTRYFS_TEST_DIR:-/var/tmp}/registryfs-test-go-cache

# Compiled beforehand, so that nothing but the suite itself runs on the mount.
TMPDIR=$work go test -c -o "$work/driver.test" "$suite"
volume_up

begin "all $expected tests of the storage driver suite pass"
(cd "$work" && TMPDIR=$mnt within 300 ./driver.test -test.v -check.v) >"$work/suite.log" 2>&1 ||
    fail "$(excerpt '^(FAIL|panic|---)' "$work/suite.log")"
same "passed tests" "$expected" "$(grep -c '^PASS: ' "$work/suite.log")"
same "summary" "OK: $expected passed" "$(grep '^OK: ' "$work/suite.log")"

begin "check of the state directory is clean"
volume_down
volume_check
finish
