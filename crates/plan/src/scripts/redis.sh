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

exec redis-server "$settings"
