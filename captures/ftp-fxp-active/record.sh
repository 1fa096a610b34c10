#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
need lftp

host pc 10.20.0.61
host archive 10.20.0.62
server partner 198.51.100.27
mkdir "$WORK/home" "$WORK/away"
chmod 755 "$WORK"
WORK=$WORK/home vsftpd_start archive store 'not-a-secret-23' pasv_promiscuous=YES
WORK=$WORK/away vsftpd_start partner mirror 'not-a-secret-24' port_promiscuous=YES connect_from_port_20=NO

make_file random 26000 fxp-active "$WORK/designs.7z"
install -o 2001 -g 2001 "$WORK/designs.7z" "$WORK/home/vsftpd/home/designs.7z"

capture_start
(cd "$WORK" && on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no; set ftp:use-fxp yes; set ftp:fxp-passive-source yes
    open -u mirror,not-a-secret-24 198.51.100.27
    put ftp://store:not-a-secret-23@10.20.0.62/designs.7z -o copy.7z; bye' >lftp.log 2>&1)
capture_stop
cmp "$WORK/designs.7z" "$WORK/away/vsftpd/home/copy.7z"
finish
