#!/usr/bin/env bash
# Records every story again, one after the other (about two minutes in all).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
for story in */record.sh; do "./$story"; done
