#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need lftp

host pc 10.20.0.53
host archive 10.20.0.60
server partner 198.51.100.25
mkdir "$WORK/home" "$WORK/away"
chmod 755 "$WORK"
WORK=$WORK/home vsftpd_start archive store 'not-a-secret-16' port_promiscuous=YES connect_from_port_20=NO
WORK=$WORK/away vsftpd_start partner mirror 'not-a-secret-17' pasv_promiscuous=YES

make_file random 41000 fxp "$WORK/designs.7z"
install -o 2001 -g 2001 "$WORK/designs.7z" "$WORK/home/vsftpd/home/designs.7z"

capture_start
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no; set ftp:use-fxp yes
    open -u mirror,not-a-secret-17 198.51.100.25
    put ftp://store:not-a-secret-16@10.20.0.60/designs.7z -o copy.7z; bye' >lftp.log 2>&1)
capture_stop
cmp "$WORK/designs.7z" "$WORK/away/vsftpd/home/copy.7z"
finish
