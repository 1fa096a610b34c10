#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need tnftp

host pc 10.20.0.85
server drop 192.0.2.85
vsftpd_start drop guest 'not-a-secret-4'

make_file docx 64000 forecast "$WORK/Q3-forecast.docx"
cat >"$WORK/u.txt" <<'SCRIPT'
user guest not-a-secret-4
quote OPTS UTF8 ON
epsv4
binary
put Q3-forecast.docx
bye
SCRIPT

capture_start
(cd "$WORK" && on pc tnftp -A -n -i 192.0.2.85 <u.txt >tnftp.log)
capture_stop
cmp "$WORK/Q3-forecast.docx" "$WORK/vsftpd/home/Q3-forecast.docx"
finish
