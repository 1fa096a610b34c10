#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl

host pc 10.20.0.48 fd00:20::48
server partner 198.51.100.20 2001:db8:51::20
pureftpd_start partner drop 'not-a-secret-11'

make_file random 23456 four "$WORK/four.bin"
make_file random 34567 six "$WORK/six.bin"

capture_start
on pc curl -sS --ftp-create-dirs -T "$WORK/four.bin" ftp://drop:not-a-secret-11@198.51.100.20/a/b/four.bin >"$WORK/curl.log"
on pc curl -sS -g -T "$WORK/six.bin" 'ftp://drop:not-a-secret-11@[2001:db8:51::20]/six%20copy.bin' >"$WORK/curl.log"
capture_stop
cmp "$WORK/four.bin" "$WORK/pureftpd/home/a/b/four.bin"
cmp "$WORK/six.bin" "$WORK/pureftpd/home/six copy.bin"
finish
