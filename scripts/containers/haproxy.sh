# shellcheck shell=bash
# HAProxy's container, for ./scripts/reload. Sourced.

# shellcheck disable=SC2034
config=/usr/local/etc/haproxy state=/var/lib/haproxy/server-state master=1

there() { docker compose exec -T haproxy "$@"; }
ask() { there socat /var/lib/haproxy/admin.sock - <<<"$1"; }

# arrange: in each backend, put the running servers first. Stopped replicas leave gaps in the server-templates. At its
# first DNS response, a new process would fill a gap with the address of a later server, and that server would lose it.
arrange() {
  awk '
    function tell(  row, rank, slot) {
      for (rank = 2; rank >= 0; rank--)
        for (row = 1; row <= rows; row++)
          if (ranks[row] == rank) print backend, slots[++slot], states[row]
      rows = 0
    }
    !/^[0-9]+ / { print; next }
    $1 " " $2 != backend { tell(); backend = $1 " " $2 }
    {
      slots[++rows] = $3 " " $4
      ranks[rows] = ($5 != "-") + ($6 == 2)  # has an address; runs
      sub(/^[^ ]+ [^ ]+ [^ ]+ [^ ]+ /, "")
      states[rows] = $0
    }
    END { tell() }'
}
