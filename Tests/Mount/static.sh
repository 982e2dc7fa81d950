#!/usr/bin/env bash
# A registry that is only files, and the registry of a domain: made of what a stock registry has on the mount, by links alone; pulled from
# web servers that were told the types, and from a gateway; changed by what a push changes; checked in DNS.
source "$(dirname "$0")/lib.sh"
source "$here/clients-lib.sh"

volume_up
registry_up
with_seed
python3 "$here/image-kinds.py" "127.0.0.1:$port" "$seed" >"$work/images" || fail "not all images were pushed"
make_image "$work/one" --layers 2 --bytes 200000 --seed "$seed" >"$work/digest-one"
make_image "$work/two" --layers 2 --bytes 200000 --seed $((seed + 1)) >"$work/digest-two"

export_static() { "$registryfs" export-static --json "$@" 2>"$work/messages"; }
cid_of() { "$registryfs" cid "$1"; }
sha256_of() { sha256sum "$1" | cut -d' ' -f1; }
refused() { # refused WORDS COMMAND...
    local words=$1 output
    shift
    ! output=$("$@" 2>&1) || fail "$* succeeded"
    [[ $output == *"$words"* ]] || fail "$*: expected '$words', found: $output"
}
registry=$mnt/docker/registry/v2

begin "all repositories become files by links"
report=$(export_static '*') || fail "$(<"$work/messages")"
root=$(jq -r .cid <<<"$report")
same "CID" "$(cid_of "$mnt/static")" "$root"
same "repositories" "$(curl -sf "http://127.0.0.1:$port/v2/_catalog?n=1000" | jq -c '.repositories | sort')" \
    "$(jq -c '.repositories | sort' <<<"$report")"
same "catalog" "$(jq -c .repositories <<<"$report")" "$(jq -c .repositories "$mnt/static/v2/_catalog")"
same "files" "$(find "$mnt/static" -type f | wc -l)" "$(jq .made <<<"$report")"
same "nothing is missing" "" "$(jq -r '.missing[]' <<<"$report")"
while read -r name tag digest kind; do
    file=$mnt/static/v2/$name/manifests/$tag
    same "$name:$tag" "$digest" "sha256:$(sha256_of "$file")"
    hex=${digest#sha256:}
    [[ $file -ef $registry/blobs/sha256/${hex:0:2}/$hex/data ]] || fail "$name:$tag is a copy"
    [[ $file -ef $mnt/static/v2/$name/manifests/$digest ]] || fail "$digest of $name is another file"
    jq -e --arg tag "$tag" '.tags | index($tag)' "$mnt/static/v2/$name/tags/list" >"$work/ignored" ||
        fail "$tag is not in the list of $name"
done <"$work/images"
find "$mnt/static/v2" -path '*/blobs/sha256:*' -type f | while read -r file; do
    hex=${file##*:}
    [[ $file -ef $registry/blobs/sha256/${hex:0:2}/$hex/data ]] || fail "$file is a copy"
done

begin "signatures are found by both ways of asking"
subject=$(awk '$1 == "signed/app" && $2 == "v1" { print $3 }' "$work/images")
signature=$(awk '$1 == "signed/app" && $2 == "signature" { print $3 }' "$work/images")
for file in "referrers/$subject" "manifests/${subject/:/-}"; do
    same "$file" "$signature" "$(jq -r '.manifests[].digest' "$mnt/static/v2/signed/app/$file")"
done
[[ -e $mnt/static/v2/signed/app/manifests/$signature ]] || fail "the signature is not there"
report=$(export_static signed/app:v1 --at exports/signed)
same "tags of one image" '["sha256-'"${subject#sha256:}"'","v1"]' "$(jq -c .tags "$mnt/exports/signed/v2/signed/app/tags/list")"
same "manifests" 2 "$(jq .manifests <<<"$report")"
same "CID of another place" "$(cid_of "$mnt/exports/signed")" "$(jq -r .cid <<<"$report")"

begin "a second time nothing is made, and after a push what it changed"
report=$(export_static '*')
same "CID" "$root" "$(jq -r .cid <<<"$report")"
same "changes" "0 0 0" "$(jq -r '"\(.made) \(.replaced) \(.removed)"' <<<"$report")"
names() { for name in "$mnt"/static/v2/*/; do echo "${name%/} $(cid_of "${name%/}")"; done; }
names >"$work/before"
push "$work/one" kinds/oci:new
report=$(export_static '*')
# The manifest by tag and digest, a config and two layers; and the list of tags.
same "changes" "5 1 0" "$(jq -r '"\(.made) \(.replaced) \(.removed)"' <<<"$report")"
names >"$work/after"
same "what has another CID" "$mnt/static/v2/kinds" "$(comm -13 "$work/before" "$work/after" | cut -d' ' -f1)"
push "$work/two" kinds/oci:new
report=$(export_static '*')
# One config, layers and manifest for the other; the list of tags is as it was.
same "changes of a tag that moves" "4 1 4" "$(jq -r '"\(.made) \(.replaced) \(.removed)"' <<<"$report")"
same "the tag" "$(<"$work/digest-two")" "sha256:$(sha256_of "$mnt/static/v2/kinds/oci/manifests/new")"

begin "an export that is killed is brought to its end by the next one"
root=$(jq -r .cid <<<"$report")
for round in 1 2 3 4 5 6; do
    place=(--at "killed-$round")
    ((round % 2)) || place=(--dir "$work/killed-$round")
    "$registryfs" export-static '*' "${place[@]}" >/dev/null 2>&1 &
    killed=$!
    pause 10 150
    kill -9 "$killed" 2>/dev/null || :
    wait "$killed" 2>/dev/null || :
    report=$(export_static '*' "${place[@]}") || fail "$(<"$work/messages")"
    if ((round % 2)); then
        same "CID" "$root" "$(jq -r .cid <<<"$report")"
    else
        diff -r "$mnt/static/v2" "$work/killed-$round/v2" >"$work/difference" || fail "$(head -n 3 "$work/difference")"
    fi
done

begin "plain files are pulled from nginx by all clients"
# A registry takes no such type, but what comes from another domain may have it: it names variables of nginx.
odd_type='application/vnd.$uri.$nonsense+json'
printf '{"schemaVersion":2,"mediaType":"%s","layers":[]}' "$odd_type" >"$work/odd"
odd=$(sha256_of "$work/odd")
odd_place=$registry/repositories/odd/type/_manifests
mkdir -p "$registry/blobs/sha256/${odd:0:2}/$odd" "$odd_place/revisions/sha256/$odd" "$odd_place/tags/v1/current"
cp "$work/odd" "$registry/blobs/sha256/${odd:0:2}/$odd/data"
printf 'sha256:%s' "$odd" | tee "$odd_place/revisions/sha256/$odd/link" >"$odd_place/tags/v1/current/link"
export_static '*' >"$work/report" || fail "$(<"$work/messages")"
report=$(export_static '*' --dir "$work/site")
same "CID of plain files" null "$(jq .cid <<<"$report")"
diff -r "$mnt/static/v2" "$work/site/v2" >"$work/difference" || fail "$(head -n 3 "$work/difference")"
server_port=$(free_port)
server=127.0.0.1:$server_port
mkdir "$work/nginx"
cat >"$work/nginx.conf" <<CONF
daemon off;
pid $work/nginx/pid;
error_log $work/nginx/error.log;
events {}
http {
    access_log off;
    client_body_temp_path $work/nginx/body;
    proxy_temp_path $work/nginx/proxy;
    fastcgi_temp_path $work/nginx/fastcgi;
    uwsgi_temp_path $work/nginx/uwsgi;
    scgi_temp_path $work/nginx/scgi;
    include $work/site/nginx-static.conf;
    server {
        listen $server;
        include $work/site/nginx-static-server.conf;
    }
}
CONF
chmod 755 "$work"
setsid nginx -c "$work/nginx.conf" -e "$work/nginx/error.log" >"$work/nginx/log" 2>&1 </dev/null &
nginx_pid=$!
background+=("$nginx_pid")
nginx_answers() { curl -sf -o "$work/ignored" "http://$server/v2/"; }
wait_for 30 nginx_answers || fail "nginx does not answer: $(cat "$work/nginx/log" "$work/nginx/error.log" 2>/dev/null | tail -n 2)"
while read -r name tag digest kind; do
    rm -rf "$work/copy"
    # skopeo follows no list of lists.
    [[ $name == lists/nested ]] ||
        within 60 skopeo --insecure-policy copy -q --all --preserve-digests --src-tls-verify=false \
            "docker://$server/$name:$tag" "dir:$work/copy" || fail "skopeo: $name:$tag ($kind) does not come"
    for reference in "$tag" "$digest"; do
        curl -sf -D "$work/head" -o "$work/body" "http://$server/v2/$name/manifests/$reference" || fail "$name:$reference"
        same "$name:$reference" "$digest" "sha256:$(sha256_of "$work/body")"
        same "type of $name:$reference" "$(jq -r .mediaType "$work/body")" \
            "$(sed -n 's/^content-type: \([^\r]*\).*/\1/Ip' "$work/head")"
        same "digest told of $name" "$digest" "$(sed -n 's/^docker-content-digest: \([^\r]*\).*/\1/Ip' "$work/head")"
    done
done <"$work/images"
head_of() { curl -s -I "http://$server$1" | tr -d '\r'; }
same "a type that names variables" "$odd_type" "$(head_of /v2/odd/type/manifests/v1 | sed -n 's/^content-type: //Ip')"
head_of /v2/none/manifests/v1 | grep -qi '^content-type: application/json' || fail "what is not there is no JSON"
head_of /v2/_catalog | grep -qi '^content-type: application/json' || fail "the catalog has another type"
head_of "/v2/signed/app/referrers/$subject" | grep -qi '^content-type: application/vnd.oci.image.index' ||
    fail "the list of referrers has another type"

cat >"$work/.config/containers/registries.conf" <<CONF
[[registry]]
prefix = "registry.example"
location = "$server"
insecure = true
CONF
while read -r name tag digest kind; do
    podman_pull "$name:$tag"
done < <(awk '$4 == "image" && $2 == "v2" || $1 ~ /^attested/' "$work/images")
podman_of rmi -f -a >/dev/null 2>&1 || :

containerd_up
while read -r name tag digest kind; do
    containerd_fetch "$name:$tag"
done <"$work/images"

begin "plain files change by what differs"
report=$(export_static '*' --dir "$work/site")
same "changes" "0 0 0 0" "$(jq -r '"\(.made) \(.replaced) \(.removed) \(.copiedBytes)"' <<<"$report")"
cp "$work/site/nginx-static.conf" "$work/maps"
push "$work/one" kinds/oci:New
report=$(export_static '*' --dir "$work/site")
same "changes after a push" "5 1 0" "$(jq -r '"\(.made) \(.replaced) \(.removed)"' <<<"$report")"
! cmp -s "$work/maps" "$work/site/nginx-static.conf" || fail "nginx is not told of the new tag"
kill -HUP "$nginx_pid"
# Two tags that a map of nginx would take for one.
has_new() { curl -sf -I "http://$server/v2/kinds/oci/manifests/New" | grep -q "$(<"$work/digest-one")"; }
wait_for 30 has_new || fail "nginx does not tell the digest of the new tag"
curl -sf -I "http://$server/v2/kinds/oci/manifests/new" | grep -q "$(<"$work/digest-two")" ||
    fail "nginx takes one tag for another"
kill "$nginx_pid"

begin "a gateway by CID and the server of the volume give the same"
export_static '*' >"$work/report"
root=$(jq -r .cid "$work/report")
serve_port=$(free_port)
setsid "$registryfs" serve --deserialized --listen "127.0.0.1:$serve_port" --state-dir "$state" >"$work/server.log" 2>&1 </dev/null &
background+=("$!")
wait_for 30 grep -q "serving at" "$work/server.log" || fail "no server: $(<"$work/server.log")"
while read -r name tag digest kind; do
    curl -sfL -o "$work/body" "http://127.0.0.1:$serve_port/ipfs/$root/v2/$name/manifests/$tag" || fail "$name:$tag by CID"
    same "$name:$tag by CID" "$digest" "sha256:$(sha256_of "$work/body")"
    curl -sf -o "$work/body" "http://127.0.0.1:$serve_port/v2/$name/manifests/$tag" || fail "$name:$tag of the volume"
    same "$name:$tag of the volume" "$digest" "sha256:$(sha256_of "$work/body")"
done <"$work/images"

begin "the tree of files alone is served as a registry"
files_port=$(free_port)
setsid "$registryfs" serve --from "$root" --gateway "http://127.0.0.1:$serve_port" --listen "127.0.0.1:$files_port" \
    >"$work/files.log" 2>&1 </dev/null &
background+=("$!")
wait_for 30 grep -q "serving at" "$work/files.log" || fail "no server: $(<"$work/files.log")"
while read -r name tag digest kind; do
    rm -rf "$work/copy"
    [[ $name == lists/nested ]] ||
        within 60 skopeo --insecure-policy copy -q --all --preserve-digests --src-tls-verify=false \
            "docker://127.0.0.1:$files_port/$name:$tag" "dir:$work/copy" || fail "$name:$tag ($kind) does not come"
    # The same of the volume's server, by the root's CID.
    type=$(curl -sf -I "http://127.0.0.1:$serve_port/v2/ipfs/$root/$name/manifests/$tag" | sed -n 's/^content-type: \([^\r]*\).*/\1/Ip')
    same "type of $name:$tag by CID" "$(jq -r .mediaType "$mnt/static/v2/$name/manifests/$tag")" "$type"
done < <(awk '!seen[$1]++' "$work/images")
same "referrers" "$signature" \
    "$(curl -sf "http://127.0.0.1:$files_port/v2/signed/app/referrers/$subject" | jq -r '.manifests[].digest' | sort -u)"

begin "what would do harm is refused"
refused "the registry's own" "$registryfs" export-static '*' --at docker/registry
refused "not of an export" "$registryfs" export-static '*' --dir "$mnt/docker/registry"
refused "no repository is" "$registryfs" export-static none/such
refused "no tag is" "$registryfs" export-static kinds/oci:none
refused "without '..'" "$registryfs" export-static '*' --at ../x
refused "is no repository" "$registryfs" export-static 'UPPER'
push "$work/one" kinds/tags/x:v1
refused "cannot be files" "$registryfs" export-static 'kinds/*'
export_static kinds/oci >"$work/report" || fail "$(<"$work/messages")"
mkdir "$mnt/others"
ln -s "$work" "$mnt/others/away"
refused "cannot" "$registryfs" export-static '*' --at others/away
[[ ! -e $work/v2 ]] || fail "a symlink was followed"

begin "thousands of tags are links"
count=$((quick ? 500 : 10000))
cat >"$work/tags.py" <<'PYTHON'
import os, sys
tags, digest, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
    place = "%s/many-%05d/current" % (tags, number)
    os.makedirs(place)
    with open(place + "/link", "w") as link:
        link.write(digest)
PYTHON
python3 "$work/tags.py" "$registry/repositories/kinds/oci/_manifests/tags" "$(<"$work/digest-one")" "$count"
start=$SECONDS
report=$(export_static kinds/oci --at many)
say "$count tags in $((SECONDS - start)) s"
(($(jq .tags <<<"$report") > count)) || fail "only $(jq .tags <<<"$report") tags"
start=$SECONDS
report=$(export_static kinds/oci --at many)
say "once more in $((SECONDS - start)) s"
same "changes" "0 0 0" "$(jq -r '"\(.made) \(.replaced) \(.removed)"' <<<"$report")"
rm -r "$registry/repositories/kinds/oci/_manifests/tags"/many-*
report=$(export_static kinds/oci --at many)
same "removed" "$count 1" "$(jq -r '"\(.removed) \(.replaced)"' <<<"$report")"

begin "a domain's tree has its repositories and nothing else"
push "$work/one" a.example/app:v1
push "$work/two" a.example/app/more:v2
push "$work/one" a.example:latest
push "$work/two" b.example/secret:v1
refused "no repository is" "$registryfs" publish --offline --domain c.example
report=$("$registryfs" publish --offline --json --domain a.example --gateway-url "http://127.0.0.1:$serve_port")
tree=$mnt/domains/a.example
root=$(jq -r .root <<<"$report")
same "root" "$(cid_of "$tree")" "$root"
same "TXT" "_dnslink.a.example. TXT \"dnslink=/ipfs/$root\"" "$(jq -r '.dnsRecords[0]' <<<"$report")"
same "TXT of the gateway" "_dnslink.a.example. TXT \"gateway=http://127.0.0.1:$serve_port\"" "$(jq -r '.dnsRecords[1]' <<<"$report")"
same "key" "a_example" "$("$registryfs" key list --json | jq -r '.keys[] | select(.name == "'"$(jq -r .name <<<"$report")"'") | .key')"
expected() { # of the registry, what the stock registry has of these repositories
    (
        cd "$mnt"
        find docker/registry/v2/repositories/a.example -type f ! -path '*/_uploads/*'
        find docker/registry/v2/repositories/a.example -type f -name link ! -path '*/_uploads/*' -exec cat {} + |
            grep -o 'sha256:[0-9a-f]\{64\}' | sort -u | while read -r digest; do
            hex=${digest#sha256:}
            echo "docker/registry/v2/blobs/sha256/${hex:0:2}/$hex/data"
        done
    ) | sort
}
same "files" "$(expected)" "$(cd "$tree" && find . -type f | sed 's/^..//' | sort)"
same "at the top" docker "$(ls -A "$tree")"
(cd "$tree" && find . -type f -path '*/blobs/*') | while read -r file; do
    [[ $tree/$file -ef $mnt/$file ]] || fail "$file is a copy"
done
mkdir "$work/pull"
skopeo_copy "docker://127.0.0.1:$serve_port/ipfs/$root/a.example/app:v1" "dir:$work/pull" || fail "the tree is no registry"
same "digest by the root" "$(<"$work/digest-one")" "sha256:$(sha256_of "$work/pull/manifest.json")"
same "by its key" "/ipns/$(jq -r .name <<<"$report")" \
    "$("$registryfs" publish --offline --json --domain a.example --by-key | jq -r '.dnsRecords[0]' | sed 's/.*dnslink=\(.*\)"/\1/')"

begin "another server gives the domain's tree alone"
alone_port=$(free_port)
setsid "$registryfs" serve --from "$root" --gateway "http://127.0.0.1:$serve_port" --listen "127.0.0.1:$alone_port" \
    >"$work/alone.log" 2>&1 </dev/null &
background+=("$!")
wait_for 30 grep -q "serving at" "$work/alone.log" || fail "no server: $(<"$work/alone.log")"
rm -rf "$work/pull"
skopeo_copy "docker://127.0.0.1:$alone_port/a.example/app:v1" "dir:$work/pull" || fail "it is no registry"
whole=$(cid_of "$mnt")
secret_tags=$(cid_of "$registry/repositories/b.example")
same "the whole tree" 404 "$(curl -s -o "$work/ignored" -w '%{http_code}' "http://127.0.0.1:$alone_port/ipfs/$whole?format=raw")"
same "another repository" 404 "$(curl -s -o "$work/ignored" -w '%{http_code}' "http://127.0.0.1:$alone_port/ipfs/$secret_tags?format=raw")"

begin "DNS is checked"
dns_port=$(free_port)
dns_up() { # dns_up RECORD...
    dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv --no-hosts \
        --bind-interfaces --listen-address=127.0.0.1 --port="$dns_port" --local=/example/ --local-ttl=60 \
        "$@" 2>"$work/dns.log" &
    dns_pid=$!
    background+=("$dns_pid")
    wait_for 10 dns_answers || fail "the name server does not answer: $(tail -n 2 "$work/dns.log")"
}
dns_answers() { [[ $("$registryfs" resolve --dns "127.0.0.1:$dns_port" none.example 2>&1) != *"does not"*"answer"* ]] && kill -0 "$dns_pid"; }
dns_down() {
    kill "$dns_pid"
    wait "$dns_pid" 2>/dev/null || :
}
check() { "$registryfs" publish --domain a.example --check --dns "127.0.0.1:$dns_port" "$@"; }
wrong() { # wrong WORDS OPTION...
    local words=$1 output
    shift
    ! output=$(check "$@" 2>&1) || fail "nothing is wrong: $output"
    grep -q "^wrong: .*$words" <<<"$output" || fail "expected '$words', found: $output"
}
dns_up
wrong "no record leads"
dns_down
link="_dnslink.a.example,dnslink=/ipfs"
empty=bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354
dns_up --txt-record="$link/$empty"
wrong "replace it by '_dnslink.a.example. TXT \"dnslink=/ipfs/$root\"'"
dns_down
dns_up --txt-record="$link/$empty" --txt-record="$link/$root"
wrong "only one may"
dns_down
dns_up --txt-record="$link/$root" --txt-record="_dnslink.a.example,ipfsnode=nowhere" \
    --txt-record="_dnslink.a.example,gateway=http://127.0.0.1:$(free_port)"
wrong "is no address"
wrong "does not give the tree"
wrong "is not told: add" --gateway-url "http://127.0.0.1:$serve_port"
dns_down
dns_up --txt-record="$link/$root" --txt-record="_dnslink.a.example,gateway=http://127.0.0.1:$serve_port" \
    --txt-record="_dnslink.a.example,ipfsnode=/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
check >"$work/findings" || fail "$(<"$work/findings")"
same "findings" "ok ok ok" "$(sed 's/:.*//' "$work/findings" | tr '\n' ' ' | sed 's/ $//')"
same "as JSON" true "$(check --json | jq .good)"
dns_down
dns_up --txt-record="_dnslink.a.example,dnslink=/ipns/$(jq -r .name <<<"$report")"
check >"$work/findings" || fail "$(<"$work/findings")"
grep -q "^warning: nobody is told" "$work/findings" || fail "$(<"$work/findings")"
dns_down

begin "a watch publishes what is pushed"
setsid "$registryfs" publish --offline --json --domain a.example --watch --interval 0.2 >"$work/watch" 2>"$work/watch.log" </dev/null &
watch_pid=$!
background+=("$watch_pid")
roots() { jq -r .root "$work/watch" 2>/dev/null; }
has_roots() { (($(roots | wc -l) >= $1)); }
wait_for 30 has_roots 1 || fail "nothing was published: $(<"$work/watch.log")"
same "the first" "$root" "$(roots)"
push "$work/two" b.example/secret:v2
push "$work/two" a.example/app:v3
has_v3() { [[ $("$registryfs" cid "$tree") == "$(roots | tail -n 1)" && -e $tree/docker/registry/v2/repositories/a.example/app/_manifests/tags/v3/current/link ]]; }
wait_for 30 has_v3 || fail "the push was not published: $(<"$work/watch.log")"
same "files" "$(expected)" "$(cd "$tree" && find . -type f | sed 's/^..//' | sort)"
kill "$watch_pid"
rm -r "$registry/repositories/a.example/app/more"
"$registryfs" publish --offline --domain a.example >"$work/lines"
same "after a deletion" "$(expected)" "$(cd "$tree" && find . -type f | sed 's/^..//' | sort)"
touch "$tree/mine"
refused "would be published too" "$registryfs" publish --offline --domain a.example
rm "$tree/mine"

begin "of a mount that is read-only plain files are made"
registry_down
"$registryfs" export-car -o "$work/tree.car" "$mnt"
mkdir "$work/from" "$work/from-state"
"$registryfs" mount --state-dir "$work/from-state" --from "$work/tree.car" -o ro "$work/from"
refused "is read-only" "$registryfs" export-static kinds/oci "$work/from"
"$registryfs" export-static --dir "$work/site-2" kinds/oci "$work/from" 2>"$work/messages" >"$work/lines" || fail "$(<"$work/messages")"
diff -r "$work/site/v2/kinds/oci" "$work/site-2/v2/kinds/oci" >"$work/difference" || fail "$(head -n 3 "$work/difference")"
"$registryfs" unmount "$work/from"

volume_down
volume_check
finish
