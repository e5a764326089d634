#!/bin/sh
# Waits until the cluster's secrets are there, writes Redis's settings and
# starts it. It holds heat, never truth: nothing of it is kept on a disk.
set -eu

password_file=${HOLDFAST_SECRETS_DIR:-/secrets}/cluster/redis-password
settings=/tmp/holdfast-redis.conf

waited=0
until [ -r "$password_file" ]; do
  if [ "$waited" -ge 120 ]; then
    echo "no readable $password_file after $waited s: is a storage node running, and is this process in the secrets' group?" >&2
    exit 1
  fi
  sleep 1
  waited=$((waited + 1))
done

umask 077
cat >"$settings" <<CONF
requirepass $(cat "$password_file")
bind * -::*
save ""
appendonly no
dir /tmp
maxmemory ${HOLDFAST_REDIS_MEMORY:-256mb}
maxmemory-policy allkeys-lru
CONF

exec redis-server "$settings"
