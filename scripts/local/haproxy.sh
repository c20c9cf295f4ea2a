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
ask() { scripts/local/ask <<<"$1"; }
