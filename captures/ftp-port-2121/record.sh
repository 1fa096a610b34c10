#!/usr/bin/env bash
# See README.md. Leaves capture.pcap and expected.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. ../lib.sh
# shellcheck source-path=SCRIPTDIR source=../ftp-proftpd/proftpd.sh
. ../ftp-proftpd/proftpd.sh
need lftp

host pc 10.20.0.59
server partner 198.51.100.32
PORT=2121 proftpd_start partner welt 'not-a-secret-25'
install -d -o 2001 -g 2001 "$WORK/proftpd/home/für uns"

make_file random 13000 de "$WORK/Übersicht März.pdf"
make_file random 11000 zh "$WORK/文件.zip"
make_file random 9000 spaces "$WORK/two  spaces, end.txt"

cat >"$WORK/client.py" <<'CLIENT'
"""Three sessions at once that speak in lower case and take turns, block by block."""

import re
import socket
import time


class Session:
    def __init__(self, file, folder):
        self.control = socket.create_connection(("198.51.100.32", 2121), timeout=10)
        self.replies = self.control.makefile("r", encoding="utf-8", newline="\r\n")
        self.reply("220")
        self.ask("user welt", "331")
        self.ask("pass not-a-secret-25", "230")
        self.ask("type i", "200")
        self.ask("cwd " + folder, "250")
        self.file, self.data = file, None

    def ask(self, command, code):
        self.control.sendall((command + "\r\n").encode())
        return self.reply(code)

    def reply(self, code):
        while not re.match(r"\d{3} ", line := self.replies.readline()):
            pass
        if not line.startswith(code):
            raise SystemExit(line)
        return line

    def begin(self, command, extended):
        if extended:
            port = int(re.search(r"\|(\d+)\|\)", self.ask("epsv", "229"))[1])
        else:
            numbers = re.search(r"\d+,\d+,\d+,\d+,(\d+),(\d+)", self.ask("pasv", "227"))
            port = int(numbers[1]) * 256 + int(numbers[2])
        self.data = socket.create_connection(("198.51.100.32", port), timeout=10)
        self.ask(f"{command} {self.file}", "150")

    def end(self):
        self.data.close()
        self.reply("226")
        self.ask("quit", "221")


sessions = [Session("Übersicht März.pdf", "/"), Session("文件.zip", "für uns"), Session("two  spaces, end.txt", "/für uns")]
contents = [open(session.file, "rb").read() for session in sessions]
for session, command, extended in zip(sessions, ("stor", "stor", "appe"), (False, True, False)):
    session.begin(command, extended)
for at in range(0, max(map(len, contents)), 2500):
    for session, content in zip(sessions, contents):
        session.data.sendall(content[at : at + 2500])
    time.sleep(0.01)
for session in reversed(sessions):
    session.end()
CLIENT

capture_start
(cd "$WORK" && on pc python3 -X utf8 client.py >client.log 2>&1)
(cd "$WORK" && LC_ALL=C.UTF-8 on pc lftp -c 'set net:max-retries 1; set net:timeout 10; set ftp:ssl-allow no
    open -p 2121 -u welt,not-a-secret-25 198.51.100.32
    cd "für uns"; put 文件.zip -o "文件 2.zip"; bye' >lftp.log 2>&1)
capture_stop
home=$WORK/proftpd/home
cmp "$WORK/Übersicht März.pdf" "$home/Übersicht März.pdf"
cmp "$WORK/文件.zip" "$home/für uns/文件.zip"
cmp "$WORK/two  spaces, end.txt" "$home/für uns/two  spaces, end.txt"
cmp "$WORK/文件.zip" "$home/für uns/文件 2.zip"
finish
