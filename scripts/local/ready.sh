# shellcheck shell=bash
# Waits for local processes. Sourced, from the root of the repository.

HOPELESS='cannot be served|Application startup failed'  # a replica that cannot start logs this last

# await_ready: return 0 when all are ready; 1, with the name of one that has ended in `ended`, or after 30 s.
# Supervisor may report a replica as started that then fails to import its application, so check its log.
await_ready() {
  local attempt complaints ports
  complaints=$(complaints)
  ports=$(scripts/local/configure processes | awk '{print $3}')
  for ((attempt = 0; attempt < 300; attempt++)); do
    # shellcheck disable=SC2086
    ! ready $ports "$ADMIN_PORT" || return 0
    ended=$(scripts/local/control status | awk '$2 == "BACKOFF" || $2 == "FATAL" {sub(".*:", "", $1); print $1; exit}') || true
    [[ -n $ended || $(complaints) == "$complaints" ]] ||
      ended=$(grep -lE "$HOPELESS" .run/*-?.log | sed 's|.run/\(.*\).log|\1|; q')
    [[ -z $ended ]] || return 1
    sleep 0.1
  done
  return 1
}

complaints() { cat .run/*-?.log 2>/dev/null | grep -cE "$HOPELESS" || true; }
