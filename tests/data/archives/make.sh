#!/usr/bin/env bash
# Makes the sample archives beside it, which the tests of archive recognition read: tests/data/archives/make.sh
# Needs 7z (p7zip-full), zip and gpg. The password is always "secret".
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir folder many
for n in 1 2 3; do
    for _ in $(seq 200); do echo "line of text $n"; done >"folder/f$n.txt"
done
for n in $(seq 40); do echo "$n" >"many/report-of-day-$n.txt"; done
: >empty

seven() { 7z a -bd "$@" >/dev/null; }
seven plain-one.7z folder/f1.txt
seven plain-folder.7z folder
seven plain-many.7z many
seven -mhc=off plain-header.7z folder
seven -psecret files-one.7z folder/f1.txt
seven -psecret files-folder.7z folder
seven -psecret files-many.7z many
seven -psecret -mhc=off files-header.7z folder
seven -psecret -mhe=on names.7z folder
seven empty.7z empty

seven -tzip plain-7z.zip folder/f1.txt
seven -tzip -psecret classic-7z.zip folder/f1.txt
seven -tzip -mem=AES256 -psecret aes-7z.zip folder/f1.txt
zip -q plain-streamed.zip - <folder/f1.txt
zip -q -r plain-folder.zip folder
zip -q -r -P secret classic-folder.zip folder
zip -q empty.zip empty

gpg_quietly() { gpg --quiet --batch --yes --homedir "$work/keys" --pinentry-mode loopback --passphrase secret "$@" 2>/dev/null; }
mkdir -m 700 keys
gpg_quietly --output symmetric.gpg --symmetric folder/f1.txt
gpg_quietly --armor --output symmetric.asc --symmetric folder/f1.txt
gpg_quietly --quick-generate-key sample@example.org rsa2048 encr
gpg_quietly --trust-model always --output public.gpg --recipient sample@example.org --encrypt folder/f1.txt
gpg_quietly --output key.gpg --export sample@example.org

rm -f "$here"/*.7z "$here"/*.zip "$here"/*.gpg "$here"/*.asc
mv ./*.7z ./*.zip ./*.gpg ./*.asc "$here"
