#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
python3 -c 'import websockets' || { echo 'missing: pip install websockets' >&2; exit 1; }

host pc 10.20.0.53
server live 203.0.113.63
start live receiver python3 "$STORY/receiver.py" "$WORK/received"
listening live 80

make_file random 200000 live "$WORK/live"

capture_start
on pc python3 "$STORY/sender.py" ws://203.0.113.63/live "$WORK/live"
capture_stop
cmp "$WORK/live" "$WORK/received"
finish
