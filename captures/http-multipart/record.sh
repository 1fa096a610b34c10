#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl

host pc 10.20.0.77
server drop 198.51.100.77
receiver_start drop 8080

make_file docx 47000 proposal "$WORK/Proposal.docx"
make_file csv 30000 contacts "$WORK/contacts.csv"

capture_start
(cd "$WORK" && on pc curl -sS -o answer.log -w '%{size_upload}' \
    -A 'Mozilla/4.0 (compatible; Win32; WinHttp.WinHttpRequest.5)' -H 'Expect:' \
    -F 'id=WKS-0177' -F 'f0=@Proposal.docx' -F 'f1=@contacts.csv;type=text/csv' http://198.51.100.77:8080/upload >size.log)
capture_stop
finish
