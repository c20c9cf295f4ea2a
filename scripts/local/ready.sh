# shellcheck shell=bash
# Waits for local processes. Sourced, from the root of the repository.

HOPELESS='cannot be served|Application startup failed'  # a replica that cannot start logs this last

# await_ready: return 0 when all are ready; 1, with the name of one that has ended in `ended`, or after START_SECONDS, with
# the name of one that is not ready in `late`.
await_ready() {
  local began=$SECONDS before processes
  before=$(complaints) processes=$(scripts/local/configure processes) late=haproxy ended=''
  while patient "$began" "$late"; do
    late=$(unready <<<"$processes")
    [[ -n $late ]] || return 0
    ended=$(comm -13 <(echo "$before") <(complaints) | head -n 1)
    [[ -z $ended ]] || return 1
    sleep 0.1
  done
  return 1
}

# unready: print the first of the processes that is not ready.
unready() {
  local name number port
  while read -r name number port && [[ -n $name ]]; do
    ready "$port" || { echo "$name-$number"; return; }
  done
  ready "$ADMIN_PORT" || echo haproxy
}

# complaints: print the name of a process each time that its log says it cannot start, or supervisor that it has ended.
complaints() {
  {
    grep -HE "$HOPELESS" .run/*-?.log | sed 's|^.run/\(.*\).log:.*|\1|'
    sed -n 's/.* exited: \([^ ]*\) (.*not expected).*/\1/p' .run/supervisord.log
  } 2>/dev/null | sort
}
