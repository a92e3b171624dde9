#!/usr/bin/env bash
# Builds the image without Docker (buildah, chroot isolation) on a Debian stand-in for python:slim, then runs it
# as compose.yaml would: user 10001, no capability, read-only root, /data and /tmp the only places to write.
# Needs root (namespaces, chroot) and Debian's buildah and debootstrap, which it installs where apt can.
# Reads: DEBIAN_MIRROR, PIP_INDEX_URL, PIP_CERT or SSL_CERT_FILE (where this machine has a mirror or own certificates).
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nector-relay
base_tar=$cache/bookworm-python.tar
work=$(mktemp -d)
service=
started=$SECONDS

say() { printf '%4ds  %s\n' $((SECONDS - started)) "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }
build() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }
finish() {
    # Not `unshare --kill-child`: the kernel forgets that wish when the child changes its user.
    [ -z "$service" ] || pgrep --parent "$service" | xargs --no-run-if-empty kill -KILL || true
    build umount --all > /dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

install_tools() {
    [ "$(id -u)" = 0 ] || fail "run this as root: it makes namespaces and a chroot"
    local missing=()
    for tool in buildah debootstrap; do command -v "$tool" > /dev/null || missing+=("$tool"); done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get > /dev/null || fail "missing: ${missing[*]}"
    say "apt-get install ${missing[*]}"
    apt-get update -qq && apt-get install -qq --yes --no-install-recommends "${missing[@]}" > /dev/null
}

# A stand-in for python:slim: Debian 12 with its own Python 3.11. Kept, since it takes a minute to make.
make_base() {
    [ -f "$base_tar" ] && return
    say "debootstrap bookworm (kept in $base_tar)"
    mkdir -p "$cache"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$work/base" \
        ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} > "$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; fail debootstrap; }
    rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/* "$work"/base/usr/share/{doc,locale,man}/*
    tar -C "$work/base" -cf "$base_tar.part" . && mv "$base_tar.part" "$base_tar"
    rm -rf "$work/base"
}

import_base() {
    say "import the stand-in base"
    local container
    container=$(build from scratch)
    build add --quiet "$container" "$base_tar" / > /dev/null
    build commit --quiet --rm "$container" localhost/stand-in > /dev/null
}

# What pip needs on this machine goes in as build secrets: none of it is left in a layer.
build_image() {
    local secrets=(--secret "id=pip.conf,src=$work/pip.conf") certificates=${PIP_CERT:-${SSL_CERT_FILE:-}}
    {
        echo "[global]"
        [ -z "${PIP_INDEX_URL:-}" ] || echo "index-url = $PIP_INDEX_URL"
        [ -z "$certificates" ] || echo "cert = /etc/ssl/certs/ca-certificates.crt"
    } > "$work/pip.conf"
    [ -z "$certificates" ] || secrets+=(--secret "id=ca.crt,src=$certificates")
    say "build the image"
    build bud --quiet --isolation chroot --format docker --pull-never --build-arg BASE=localhost/stand-in \
        "${secrets[@]}" --tag localhost/nector-relay "$here" > "$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; fail "the build"; }
}

# Prints the variables of the image as env(1) takes them, one a line.
check_settings() {
    say "look at the image's settings"
    build inspect --type image localhost/nector-relay > "$work/image.json"
    python3 - "$work/image.json" << 'PYTHON' > "$work/environment"
import json, sys
given = json.load(open(sys.argv[1], encoding="utf-8"))["Docker"]["config"]
expected = {
    "User": "10001:10001", "WorkingDir": "/app", "Entrypoint": ["nector-relay"], "Cmd": ["serve"],
    "Volumes": {"/data": {}}, "ExposedPorts": {"8000/tcp": {}}, "StopSignal": "SIGTERM",
}
wrong = {name: given.get(name) for name, value in expected.items() if given.get(name) != value}
if wrong:
    sys.exit(f"the image has {wrong}, expected {expected}")
health = given["Healthcheck"]["Test"]
if health[0] != "CMD":
    sys.exit(f"the health check goes through a shell: {health}")
with open(sys.argv[1] + ".health", "w", encoding="utf-8") as file:
    file.write("\0".join(health[1:]))
print("\n".join(given["Env"]))
PYTHON
    mapfile -t environment < "$work/environment"
    mapfile -d '' -t health < "$work/image.json.health"
}

mount_image() {
    local container
    container=$(build from --pull-never localhost/nector-relay)
    root=$(build mount "$container")
    [ "$(stat -c '%u:%g %a' "$root/data")" = "10001:10001 700" ] || fail "/data is $(stat -c '%u:%g %a' "$root/data")"
    [ -z "$(find "$root/app" ! -user 0)" ] || fail "a file in /app belongs to the user that runs it"
    [ ! -e "$root/opt/tools" ] || fail "the build's tools are in the image"
    [ -z "$(find "$root/app/.venv/bin" -name 'pytest*' -o -name 'uv*' ! -name 'uvicorn')" ] || fail "development tools are in the image"
    # What the build leaves of bytecode beside the base's own library counts, too.
    local size
    size=$(du -cm --apparent-size "$root/app" $(find "$root"/usr/l* -newer "$base_tar" -name '__pycache__' -type d) | tail -n 1 | cut -f1)
    [ "$size" -le 60 ] || fail "the image is $size MB on top of its base: deploy/slim.py is to keep it at 60"
    say "the image is $size MB on top of its base"
    mkdir -p "$work/data" && chown 10001:10001 "$work/data" && chmod 0700 "$work/data"
}

# "${contain[@]}" COMMAND…: runs it in the image as PID 1, with what read_only, cap_drop and tmpfs would give it.
prepare_container() {
    # shellcheck disable=SC2016  # the inner shell is to expand them
    contain=(unshare --mount --pid --fork --net --ipc --uts bash -c '
        set -e; root=$1 data=$2; shift 2
        mount --bind "$root" "$root"
        mount --bind "$data" "$root/data"
        mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"
        mount -t proc proc "$root/proc"
        mount --bind /dev "$root/dev"
        mount -o remount,bind,ro "$root"
        ip link set lo up
        exec chroot "$root" setpriv --reuid 10001 --regid 10001 --clear-groups \
            --no-new-privs --bounding-set=-all --inh-caps=-all env --ignore-environment --chdir=/app "$@"
    ' contained "$root" "$work/data" "${environment[@]}")
}

# enter PID COMMAND…: runs it beside the contained process, as `docker exec` and the health check do.
enter() {
    local pid=$1
    shift
    nsenter --target "$pid" --mount --net --pid --ipc --uts --root --wd --setuid 10001 --setgid 10001 \
        env --ignore-environment "${environment[@]}" "$@"
}

expect() {
    local wanted=$1 code=0
    shift
    "${contain[@]}" "$@" > "$work/answer" 2>&1 || code=$?
    [ "$code" = "$wanted" ] || { cat "$work/answer"; fail "exit code $code instead of $wanted: $*"; }
}

check_commands() {
    say "run the commands as 10001 on a read-only root"
    expect 0 nector-relay check
    tail -n 1 "$work/answer"
    expect 78 nector-relay serve
    expect 2 sh -c ': > /app/anything'
    grep -q 'Read-only' "$work/answer" || fail "/app/anything: $(cat "$work/answer")"
    expect 0 sh -c ': > /data/anything && : > /tmp/anything && rm /data/anything'
    expect 0 python -IS -c 'import os; s = open("/proc/self/status").read(); print(os.getuid(), os.getpid(), [l for l in s.splitlines() if l[:3] in ("Cap", "NoN")])'
    cat "$work/answer"
}

seconds_since() { python3 -c "print(f'{$EPOCHREALTIME - $1:.1f}')"; }

check_service() {
    say "serve"
    local example begun pid= code=0
    mapfile -t example < <(grep -E '^[A-Z_]+=' "$here/.env.example")
    # In a container it listens on 0.0.0.0, where secrets that everybody knows are refused.
    expect 78 "${example[@]}" nector-relay serve
    grep -q -- '--published-on' "$work/answer" || fail "no cure: $(cat "$work/answer")"
    rm -f "$work"/data/*
    "${contain[@]}" "${example[@]}" nector-relay serve --published-on 127.0.0.1 > "$work/serve.log" 2>&1 &
    begun=$EPOCHREALTIME
    service=$! # unshare, which passes on the exit code of its only child
    until [ -n "$pid" ] && enter "$pid" "${health[@]}" 2> /dev/null; do
        kill -0 "$service" 2> /dev/null || { cat "$work/serve.log"; fail "serve ended"; }
        [ $((${EPOCHREALTIME%.*} - ${begun%.*})) -lt 20 ] || { cat "$work/serve.log"; fail "not healthy within 20 s"; }
        pid=$(pgrep --parent "$service" || true)
        sleep 0.1
    done
    say "healthy $(seconds_since "$begun") s after the start, by its own health check"
    [ -f "$work/data/relay.db" ] || fail "the outbox is not in /data"
    begun=$EPOCHREALTIME
    kill -TERM "$pid"
    wait "$service" || code=$?
    service=
    [ "$code" = 0 ] || { cat "$work/serve.log"; fail "exit code $code after SIGTERM"; }
    say "ended with 0 $(seconds_since "$begun") s after SIGTERM"
}

install_tools
make_base
import_base
build_image
check_settings
mount_image
prepare_container
check_commands
check_service
say "the image keeps its promises"
