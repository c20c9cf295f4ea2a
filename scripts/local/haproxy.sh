# shellcheck shell=bash
# The local HAProxy, for ./scripts/reload. Sourced.

# shellcheck source=/dev/null
source .run/settings  # those that HAProxy was started with
scripts/local/configure haproxy >.run/haproxy.cfg
# shellcheck disable=SC2034
config=.run/haproxy.cfg state=.run/server-state
# shellcheck disable=SC2034
master=$(scripts/local/control pid stack:haproxy) || fail "HAProxy does not run (.run/haproxy.log says why)"

there() { "$@"; }
arrange() { cat; }
ask() {
  .venv/local/bin/python - "$1" <<'END'
import socket, sys
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect(".run/admin.sock")
    admin.sendall(sys.argv[1].encode() + b"\n")
    sys.stdout.write("".join(iter(lambda: admin.recv(65536).decode(), "")))
END
}
