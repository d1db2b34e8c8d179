#!/bin/sh
# Makes the passwords and keys that compose.yaml hands to the containers, in deploy/secrets/. What is there is left alone.
set -eu
umask 077
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
cd "$folder"

random() { openssl rand -hex 24; }
made() { # made NAME VALUE: unless there is one
  [ -s "$1" ] || printf '%s' "$2" >"$1"
}

made postgres_password "$(random)"
made valkey_password "$(random)"
made signing_key "$(random)"
made grafana_password "$(random)"
made metrics_key "replace me: orchestrator key create --name prometheus --role viewer --scope metrics"
made database_url "postgresql://flows:$(cat postgres_password)@postgres:5432/flows"
made broker_url "redis://:$(cat valkey_password)@valkey:6379/0"
made valkey.conf "requirepass $(cat valkey_password)
maxmemory 384mb
maxmemory-policy noeviction
appendonly yes
dir /data
"
if [ ! -s tls.crt ]; then
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout tls.key -out tls.crt -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null
fi
# The containers run as users of their own, and must read what is mounted.
chmod 0644 ./*
chmod 0711 .
echo "Secrets are in $(pwd): keep them out of version control."
