#!/bin/sh
# Makes, once, the password and the certificate that worker and vCenter share, and runs the simulated vCenter.
set -eu
umask 077
cd /run/vcenter
[ -e password ] || { printf %s "$(openssl rand -hex 16)" >password.partial && mv password.partial password; }
[ -e vcenter.pem ] || {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=vcenter \
        -addext subjectAltName=DNS:vcenter,IP:127.0.0.1 -keyout vcenter.key -out vcenter.pem.partial
    mv vcenter.pem.partial vcenter.pem
}
exec vcenter -listen 0.0.0.0:8989 -cert vcenter.pem -key vcenter.key -user federation -password-file password
