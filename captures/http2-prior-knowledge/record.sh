#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx nghttp

host pc 10.20.0.51
server drop 198.51.100.78
receiver_start drop 8081
nginx_start drop '80 http2' <<'CONF'
        location / { dav_methods PUT; create_full_put_path on; }
        location /form { proxy_pass http://127.0.0.1:8081; }
CONF

make_file random 90123 one "$WORK/one"
make_file pdf 30000 form "$WORK/form.pdf"
make_file random 20017 post "$WORK/post"

capture_start
# A file, a form, then two streams side by side whose DATA frames are padded.
on pc curl -sS --http2-prior-knowledge -o "$WORK/answer1.log" -T "$WORK/one" http://198.51.100.78/one
on pc curl -sS --http2-prior-knowledge -o "$WORK/answer2.log" -F "plan=@$WORK/form.pdf" http://198.51.100.78/form
on pc nghttp -n --padding=200 --no-dep -d "$WORK/post" -H ':method: PUT' -H 'user-agent: nghttp' http://198.51.100.78/post http://198.51.100.78/again
capture_stop
cmp "$WORK/one" "$WORK/nginx/root/one"
cmp "$WORK/post" "$WORK/nginx/root/post"
cmp "$WORK/post" "$WORK/nginx/root/again"
finish
