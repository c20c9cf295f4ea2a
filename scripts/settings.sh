# shellcheck shell=bash
# The settings that compose.yaml declares. Sourced, from the root of the repository, after common.sh.

# declared_settings [FILE]: print NAME|DEFAULT|ALLOWED|MEANING of each in this file, or in all that COMPOSE_FILE names.
declared_settings() {
  local file
  for file in compose.yaml addons/*/compose.yaml; do
    [[ :${1-compose.yaml:${COMPOSE_FILE-}}: == *":$file:"* ]] || continue
    sed -nE 's/^  ([A-Z0-9_]+): &[A-Z0-9_]+ \$\{[A-Z0-9_]+:-(.*)\} +# ([^;]+); (.*)$/\1|\2|\3|\4/p' "$file"
  done
}

# read_settings: export every setting: as the environment has it, else .env, else its default. Fail if one is not allowed.
read_settings() {
  local name default allowed value from_file
  from_file=$(read_env_file) || exit
  eval "$from_file"
  while IFS='|' read -r name default allowed _; do
    value=${!name:-$default}
    is_allowed "$allowed" "$value" ||
      fail "$name must be $allowed, not '$value' ($([[ $from_file == *"export $name="* ]] && echo 'set in .env; ')compose.yaml explains it)"
    export "$name=$value"
  done < <(declared_settings)
  leave_out_unread
  ports_differ HTTP_PORT ADMIN_PORT
  ports_differ HTTP_PORT HTTPS_PORT
  ports_differ ADMIN_PORT HTTPS_PORT
  [[ $WSGI_AT != "$ASGI_AT" ]] || fail "WSGI_AT and ASGI_AT must differ, and are both $WSGI_AT"
  # With as many streams as requests, short requests would find no thread.
  ((WSGI_STREAMS < WSGI_MAXCONN)) || fail "WSGI_STREAMS must be less than WSGI_MAXCONN ($WSGI_MAXCONN), not '$WSGI_STREAMS'"
}

# leave_out_unread: unset the settings of addons that COMPOSE_FILE does not name, and say that they have no effect.
leave_out_unread() {
  local addon name
  for addon in addons/*; do
    ! has_addon "${addon#*/}" || continue
    while IFS='|' read -r name _; do
      [[ -z ${!name-} ]] || say "$name has no effect: COMPOSE_FILE does not name $addon/compose.yaml" >&2
      unset "$name"
    done < <(declared_settings "$addon/compose.yaml")
  done
  has_addon ipv6 || export BIND_IPV6=''  # Docker Compose would read it from .env, and addons/https would use it
}

# ports_differ NAME NAME: fail if both settings are the same port.
ports_differ() {
  [[ ${!1-} != "${!2-}" ]] || fail "$1 and $2 must differ, and are both ${!1}"
}

# read_env_file: print, as commands, what .env sets and the environment does not. Docker Compose reads it in the same way.
read_env_file() {
  local line key value
  [[ -e .env ]] || return 0
  [[ -r .env ]] || fail "cannot read .env"
  while read -r line || [[ -n $line ]]; do
    [[ $line =~ ^(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=[[:space:]]*(.*)$ ]] || continue
    key=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
    [[ -z ${!key+set} ]] || continue
    if [[ $value =~ ^\"([^\"]*)\" || $value =~ ^\'([^\']*)\' ]]; then
      value=${BASH_REMATCH[1]}
    else
      value=${value%%[[:space:]]#*}  # a comment
      value=${value%"${value##*[![:space:]]}"}
    fi
    printf 'export %s=%q\n' "$key" "$value"
  done <.env
}

# is_allowed ALLOWED VALUE: whether the value is one of those allowed: `2 to 40`, `all or problems`, or what `fits` knows.
is_allowed() {
  local choices="$1 or " choice
  while [[ -n $choices ]]; do
    choice=${choices%% or *} choices=${choices#* or }
    ! fits "$choice" "$2" || return 0
  done
  return 1
}
fits() { # CHOICE VALUE
  local label='[a-z0-9]([a-z0-9-]*[a-z0-9])?' byte='(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])' host address network
  host="$label(\.$label)*" address="$byte(\.$byte){3}"
  network="($address(/([12]?[0-9]|3[0-2]))?|[0-9a-fA-F]*:[0-9a-fA-F:]*(/(1[01][0-9]|12[0-8]|[1-9]?[0-9]))?)"
  case $1 in
    image) [[ $2 =~ ^[^[:space:]]+$ ]] ;;
    'IPv4 address') [[ $2 =~ ^$address$ ]] ;;
    'IPv6 address') [[ $2 == *:*:* && $2 =~ ^[0-9a-fA-F:]+$ ]] ;;
    package.module:callable) [[ $2 =~ ^([A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*)?$ ]] ;;
    /path/) [[ $2 =~ ^(/[A-Za-z0-9._~-]+)*/$ ]] ;;
    host/path/) [[ $2 =~ ^$host(/[A-Za-z0-9._~-]+)*/$ ]] ;;
    'e-mail address') [[ $2 =~ ^[^[:space:]@]+@$host$ ]] ;;
    'https address') [[ $2 =~ ^https://[^[:space:]]+$ ]] ;;
    'host names') [[ $2 =~ ^$host(\ $host)*$ && $2 != any ]] ;;
    networks) [[ $2 =~ ^$network(\ $network)*$ ]] ;;
    *' to '*) [[ $2 =~ ^(0|[1-9][0-9]{0,9})$ ]] && ((${1% to *} <= $2 && $2 <= ${1#* to })) ;;
    *) [[ $2 == "$1" ]] ;;
  esac
}
