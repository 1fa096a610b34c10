#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
# shellcheck source-path=SCRIPTDIR source=proftpd.sh
. ./proftpd.sh
need curl lftp tnftp

host pc 10.20.0.50
server partner 198.51.100.22
proftpd_start partner press 'not-a-secret-13'
install -d -o 2001 -g 2001 "$WORK/proftpd/home/in"

make_file docx 24000 curl "$WORK/offer.docx"
make_file random 30000 lftp "$WORK/photo.raw"
make_file csv 9000 unique "$WORK/list.csv"
cat >"$WORK/script" <<'SCRIPT'
user press not-a-secret-13
epsv4
binary
cd in
sunique
put list.csv
bye
SCRIPT

capture_start
on pc curl -sS -T "$WORK/offer.docx" ftp://press:not-a-secret-13@198.51.100.22/in/offer.docx >"$WORK/curl.log"
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no
    open -u press,not-a-secret-13 198.51.100.22
    cd in; put photo.raw; bye' >lftp.log 2>&1)
(cd "$WORK" && on pc tnftp -p -n -i 198.51.100.22 <script >tnftp.log)
capture_stop
cmp "$WORK/offer.docx" "$WORK/proftpd/home/in/offer.docx"
cmp "$WORK/photo.raw" "$WORK/proftpd/home/in/photo.raw"
# The name that the server chose for the third file.
for path in "$WORK"/proftpd/home/in/*; do
    if cmp -s "$WORK/list.csv" "$path"; then basename "$path" >"$WORK/chosen"; fi
done
finish
