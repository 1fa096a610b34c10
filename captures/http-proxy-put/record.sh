#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx

host pc 10.20.0.54
server proxy 192.0.2.80
server drop 198.51.100.80
nginx_start drop 80 <<'CONF'
        location / { dav_methods PUT; create_full_put_path on; }
CONF
# The proxy knows the name without asking anyone.
echo '198.51.100.80 drop.example' >"$WORK/hosts"
squid_start proxy 3128 "hosts_file $WORK/hosts"

make_file random 77777 proxied "$WORK/ledger.bin"

capture_start
on pc curl -sS -x http://192.0.2.80:3128 -o "$WORK/answer.log" -T "$WORK/ledger.bin" http://clerk:s3cret@drop.example/in/ledger.bin
capture_stop
cmp "$WORK/ledger.bin" "$WORK/nginx/root/in/ledger.bin"
finish
