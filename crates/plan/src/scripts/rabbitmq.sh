#!/bin/sh
# Puts RabbitMQ's settings together with its password, which is in no ConfigMap,
# and hands over to the image's own entrypoint.
set -eu

secrets=${HOLDFAST_SECRETS_DIR:-/secrets}/cluster
settings=/tmp/holdfast-rabbitmq.conf
cookie=${HOME:-/var/lib/rabbitmq}/.erlang.cookie

# The kubelet writes this name into /etc/hosts, so it is known before DNS knows it.
name=$(hostname -f)
domain=${name#*.}
if [ "$domain" = "$name" ]; then
  echo "this pod's name '$name' has no domain: brokers cannot find each other by it" >&2
  exit 1
fi

umask 077
{
  sed "s/@DOMAIN@/$domain/" /holdfast/rabbitmq.conf
  # A broker without data makes this user; one that has data keeps those it has.
  echo "default_user = $(cat "$secrets/rabbitmq-user" 2>/dev/null || echo holdfast)"
  echo "default_pass = $(cat "$secrets/rabbitmq-password")"
} >"$settings"

# Erlang takes it only from a file of its own that nobody else can read.
rm -f "$cookie"
tr -d '\n' <"$secrets/erlang-cookie" >"$cookie"
chmod 400 "$cookie"

export RABBITMQ_CONFIG_FILE=$settings
export RABBITMQ_NODENAME=rabbit@$name
# The image's own directory of logs cannot be written, and logs go to the console.
export RABBITMQ_LOG_BASE=/tmp
# A dump is as large as the memory that was full.
export ERL_CRASH_DUMP_BYTES=0
# An idle broker does not spin.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
exec docker-entrypoint.sh rabbitmq-server
