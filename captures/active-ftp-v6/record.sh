#!/usr/bin/env bash
# See README.md. Leaves capture.pcap, endpoint.jsonl and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl zip

host pc 10.20.0.57 fd00:20::57
server drop 2001:db8:51::21
vsftpd_start drop survey 'not-a-secret-7' listen=NO listen_ipv6=YES

docs=$WORK/documents
make_file docx 45000 sites "$docs/Sites.docx"
make_file pdf 48000 network "$docs/Network plan.pdf"
(cd "$docs" && zip -q -X "$WORK/survey.zip" ./*)

PRECISION=nano
capture_start
(cd "$WORK" && on pc curl -sS -g --ftp-port - -T survey.zip 'ftp://survey:not-a-secret-7@[2001:db8:51::21]/in.zip' >curl.log)
capture_stop
cmp "$WORK/survey.zip" "$WORK/vsftpd/home/in.zip"
finish
