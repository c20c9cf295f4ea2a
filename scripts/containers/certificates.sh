# shellcheck shell=bash
# Where containers keep the certificate: a volume. Sourced by ./scripts/certificate, from the root of the repository.

in_volume() { docker compose --profile certificate run --rm --no-deps -T certificates bash -c "$1" 2>/dev/null; }
keep() {
  in_volume 'cd /var/lib/haproxy && umask 077 && cat >.site.pem && mv .site.pem site.pem' ||
    fail "could not write into the volume certificates"
}
kept() { in_volume 'cat /var/lib/haproxy/site.pem' </dev/null || true; }
runs() { [[ -n $(docker compose ps --quiet haproxy) ]]; }
ask() { docker compose exec -T haproxy socat /var/lib/haproxy/admin.sock - <<<"$1"; }
