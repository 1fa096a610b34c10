#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
# shellcheck source-path=SCRIPTDIR source=../ftp-proftpd/proftpd.sh
. ../ftp-proftpd/proftpd.sh
need lftp

host pc 10.20.0.54
server partner 198.51.100.26
proftpd_start partner feeds 'not-a-secret-18' 'DeflateEngine on'

make_file text 90000 deflate "$WORK/minutes.txt"
make_file random 12000 incompressible "$WORK/key.bin"

capture_start
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no; set ftp:use-mode-z yes
    set ftp:compressed-re ""
    open -u feeds,not-a-secret-18 198.51.100.26
    put minutes.txt; put key.bin; bye' >lftp.log 2>&1)
capture_stop
for name in minutes.txt key.bin; do cmp "$WORK/$name" "$WORK/proftpd/home/$name"; done
finish
