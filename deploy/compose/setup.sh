#!/bin/sh
# Makes, once, the passwords that the services start with. What is there stays: started again, it changes nothing.
set -eu
umask 077

secret() { python3 -c 'import secrets; print(secrets.token_urlsafe(32))'; }

# give FILE OWNER: what stands on standard input becomes FILE, in one step, readable by OWNER only
give() {
    cat >"$1.partial"
    chown "$2:$2" "$1.partial"
    chmod 400 "$1.partial"
    mv "$1.partial" "$1"
}

ours=10001      # `federation` of our images
servers=999     # `postgres` and `rabbitmq` of the official images
grafana=472

if [ ! -e /secrets/postgres/password ]; then
    password=$(secret)
    echo "postgresql+psycopg://federation:$password@postgres/federation" | give /secrets/manager/store.url $ours
    echo "$password" | give /secrets/postgres/password $servers
fi

if [ ! -e /secrets/broker/operator.conf ]; then
    password=$(secret)
    echo "federation://operator:$password@$FEDERATION_BROKER_HOSTS/federation" | give /secrets/operator/broker.url $ours
    echo "http://operator:$password@rabbitmq:15672" | give /secrets/operator/management.url $ours
    secret | give /secrets/broker/erlang.cookie $servers
    printf 'default_user = operator\ndefault_pass = %s\n' "$password" | give /secrets/broker/operator.conf $servers
fi

if [ ! -e /secrets/grafana/password ]; then secret | give /secrets/grafana/password $grafana; fi

for folder in /secrets/manager /secrets/operator /secrets/workers-* /secrets/demo-*; do chown $ours:$ours "$folder"; done
for folder in /secrets/broker /secrets/postgres; do chown $servers:$servers "$folder"; done
chown $grafana:$grafana /secrets/grafana
