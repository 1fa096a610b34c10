#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx nghttp nghttpx

host pc 10.20.0.52
server drop 198.51.100.79
receiver_start drop 8081
start drop nghttpx nghttpx --conf=/dev/null --frontend='*,80;no-tls' --backend=127.0.0.1,8081 --workers=1
listening drop 80
server old 198.51.100.82
nginx_start old 80 <<'CONF'
        location / { dav_methods PUT; create_full_put_path on; }
CONF

make_file pdf 12000 notes "$WORK/notes"
make_file random 33333 data "$WORK/data"

capture_start
# One server takes the upgrade: of a request that goes before the upload, and of the upload itself, whose body is
# HTTP/1.1 then and whose answer is HTTP/2. The other passes over it and answers two requests in HTTP/1.1.
on pc nghttp -n -u -d "$WORK/data" http://198.51.100.79/data
on pc curl -sS --http2 -o "$WORK/answer0.log" --data-binary "@$WORK/notes" http://198.51.100.79/whole
on pc curl -sS --http2 -o "$WORK/answer1.log" --data-binary "@$WORK/notes" -X PUT http://198.51.100.82/notes \
    -o "$WORK/answer2.log" http://198.51.100.82/again
capture_stop
cmp "$WORK/notes" "$WORK/nginx/root/notes"
cmp "$WORK/notes" "$WORK/nginx/root/again"
finish
