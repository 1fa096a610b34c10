#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl nginx

for n in 1 2 3 4; do host "pc$n" "10.20.0.10$n"; done
server shop 203.0.113.80
nginx_start shop 80 <<'CONF'
        server_name shop.example;
        location / { add_header Content-Type text/html; return 200 "<p>Thank you</p>\n"; }
CONF

make_file png 9000 portrait "$WORK/portrait.png"
edge='Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0'
chrome='Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36'
firefox='Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0'
browse=(curl -sS -o "$WORK/answer.log" --connect-to shop.example:80:203.0.113.80:80 --compressed)

capture_start
: >"$WORK/sizes.log"
on pc1 "${browse[@]}" -A "$chrome" http://shop.example/ \
    --next -sS -o "$WORK/answer.log" -w '%{size_upload}\n' --connect-to shop.example:80:203.0.113.80:80 -A "$chrome" \
    --data-urlencode 'q=garden chairs' -d 'page=1' http://shop.example/search >>"$WORK/sizes.log"
sleep 0.4
on pc2 "${browse[@]}" -w '%{size_upload}\n' -A "$edge" --data-urlencode 'name=Eva Lang' --data-urlencode 'mail=eva.lang@fabrikam.example' \
    -d 'newsletter=on' http://shop.example/register >>"$WORK/sizes.log"
sleep 0.4
on pc3 "${browse[@]}" -w '%{size_upload}\n' -A "$firefox" --data-urlencode 'message=When will order 20417 arrive?' \
    -d 'order=20417' http://shop.example/contact >>"$WORK/sizes.log"
sleep 0.4
on pc4 "${browse[@]}" -w '%{size_upload}\n' -A "$chrome" -F 'nick=pat' -F "picture=@$WORK/portrait.png;type=image/png" \
    http://shop.example/profile >>"$WORK/sizes.log"
capture_stop
sed -i '/^$/d' "$WORK/sizes.log"
finish
