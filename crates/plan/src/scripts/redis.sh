#!/bin/sh
# Puts Redis's settings together with its password, which is in no ConfigMap, and
# starts it.
set -eu

settings=/tmp/holdfast-redis.conf

umask 077
{
  cat /holdfast/redis.conf
  echo "requirepass $(cat "${HOLDFAST_SECRETS_DIR:-/secrets}/cluster/redis-password")"
} >"$settings"

# Redis reads certificates when it is told to: when the kubelet has replaced them.
certificates() {
  cat /tls/tls.crt /tls/tls.key /tls/ca.crt 2>/dev/null | sha256sum
}
follow_certificates() {
  loaded=$(certificates)
  while sleep 10; do
    found=$(certificates)
    [ "$found" = "$loaded" ] && continue
    REDISCLI_AUTH=$(cat "${HOLDFAST_SECRETS_DIR:-/secrets}/cluster/redis-password")
    export REDISCLI_AUTH
    said=$(redis-cli -s /tmp/redis.sock config set tls-cert-file /tls/tls.crt \
      tls-key-file /tls/tls.key tls-ca-cert-file /tls/ca.crt 2>&1) || continue
    [ "$said" = OK ] && loaded=$found && echo "the new certificate is loaded"
  done
}
if [ -d /tls ]; then
  follow_certificates &
fi

exec redis-server "$settings"
