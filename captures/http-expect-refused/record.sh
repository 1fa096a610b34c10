#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need curl

host pc 10.20.0.44
server drop 198.51.100.77
receiver_start drop 80 --refuse-expect

make_file random 60000 expect "$WORK/blob"

capture_start
# curl asks for leave before a PUT by itself, and repeats the request without asking when refused.
on pc curl -sS -o "$WORK/answer.log" -T "$WORK/blob" http://198.51.100.77/blob
capture_stop
finish
