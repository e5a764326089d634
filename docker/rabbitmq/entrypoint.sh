#!/bin/sh
# Waits until the cluster's secrets are there, writes RabbitMQ's settings and
# hands over to the image's own entrypoint.
set -eu

password_file=${HOLDFAST_SECRETS_DIR:-/secrets}/cluster/rabbitmq-password
settings=/tmp/holdfast-rabbitmq.conf

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
default_user = holdfast
default_pass = $(cat "$password_file")
loopback_users = none
log.console = true
log.console.level = warning
# Messages are hints of some bytes: this is a million of them.
vm_memory_high_watermark.absolute = 400MiB
disk_free_limit.absolute = 200MiB
CONF

export RABBITMQ_CONFIG_FILE=$settings
# An idle broker does not spin.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
exec docker-entrypoint.sh rabbitmq-server
