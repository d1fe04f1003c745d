#!/bin/sh
# Gives the node what all nodes share and only its user may read: Erlang's cookie and the operator's login. Then the image's own start.
set -eu
own() { install --owner rabbitmq --group rabbitmq --mode 400 "/run/federation/broker/$1" "$2"; }
own erlang.cookie /var/lib/rabbitmq/.erlang.cookie
own operator.conf /etc/rabbitmq/conf.d/90-operator.conf
exec docker-entrypoint.sh rabbitmq-server
