#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx openssl

host pc 10.20.0.55
server proxy 192.0.2.80
server drop 198.51.100.81
nginx_start drop 80 <<'CONF'
        location / { dav_methods PUT; create_full_put_path on; }
CONF
echo '198.51.100.81 drop.example' >"$WORK/hosts"
echo "clerk:$(openssl passwd -apr1 s3cret)" >"$WORK/users"
chmod 644 "$WORK/users"
squid_start proxy 3128 "hosts_file $WORK/hosts" "auth_param basic program /usr/lib/squid/basic_ncsa_auth $WORK/users" \
    'auth_param basic realm proxy' 'acl users proxy_auth REQUIRED' 'http_access deny !users'

make_file random 65432 tunnelled "$WORK/ledger.bin"

capture_start
# Asked for a password first, on the same connection; then the tunnel, and in it a plain request.
on pc curl -sS -p -x http://192.0.2.80:3128 --proxy-anyauth -U clerk:s3cret -o "$WORK/answer.log" \
    -T "$WORK/ledger.bin" http://drop.example/in/ledger.bin
capture_stop
cmp "$WORK/ledger.bin" "$WORK/nginx/root/in/ledger.bin"
finish
