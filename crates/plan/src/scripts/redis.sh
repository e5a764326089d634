#!/bin/sh
# Puts Redis's settings together with its passwords, which are in no ConfigMap,
# and starts it. Passwords and certificates are taken again when the kubelet has
# replaced them; there are two passwords while they are exchanged.
set -eu

secrets=${HOLDFAST_SECRETS_DIR:-/secrets}/cluster
settings=/tmp/holdfast-redis.conf

password() {
  cat "$secrets/$1" 2>/dev/null || true
}
# As rules have them: the SHA-256 of each.
passwords() {
  for slot in redis-password redis-password-previous; do
    text=$(password "$slot")
    [ -z "$text" ] || printf '#%s ' "$(printf %s "$text" | sha256sum | cut -d' ' -f1)"
  done
}
certificates() {
  cat /tls/tls.crt /tls/tls.key /tls/ca.crt 2>/dev/null | sha256sum
}

shown=$(password redis-password)
taken=$(passwords)
umask 077
{
  cat /holdfast/redis.conf
  echo "user default on $taken~* &* +@all"
} >"$settings"

tell() {
  [ "$(REDISCLI_AUTH=$shown redis-cli --no-auth-warning -s /tmp/redis.sock "$@" 2>&1)" = OK ]
}
follow_passwords() {
  found=$(passwords)
  next=$(password redis-password)
  # Not while they are being replaced.
  [ "$found" != "$taken" ] && [ "$found" = "$(passwords)" ] && [ -n "$next" ] || return 0
  # shellcheck disable=SC2086
  tell acl setuser default resetpass $found || return 0
  shown=$next taken=$found
  echo "the passwords that have changed are taken"
}
follow_certificates() {
  found=$(certificates)
  [ "$found" != "$loaded" ] || return 0
  tell config set tls-cert-file /tls/tls.crt tls-key-file /tls/tls.key \
    tls-ca-cert-file /tls/ca.crt || return 0
  loaded=$found
  echo "the new certificate is loaded"
}
follow() {
  loaded=$(certificates)
  while sleep 5; do
    follow_passwords
    [ ! -d /tls ] || follow_certificates
  done
}
follow &

exec redis-server "$settings"
