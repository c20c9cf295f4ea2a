# shellcheck shell=bash
# Where local processes keep the certificate: a folder of the user's. Sourced by ./scripts/certificate, from the root.

# shellcheck disable=SC2154
folder=$data/certificates
keep() {
  (umask 077 && mkdir -p "$folder" && cat >"$folder/.site.pem" && mv "$folder/.site.pem" "$folder/site.pem") ||
    fail "could not write $folder/site.pem"
}
kept() { cat "$folder/site.pem" 2>/dev/null || true; }
runs() { local_processes; }
ask() { scripts/local/ask <<<"$1"; }
