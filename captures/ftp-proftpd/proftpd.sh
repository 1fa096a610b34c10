# shellcheck shell=bash
# A ProFTPD of its own for a story, beside lib.sh. The package conflicts with vsftpd, so it is
# downloaded and run unpacked, as lib.sh does with pure-ftpd.

# Before it: PORT=, and DISK=, the size of a small disk to hold the home.
proftpd_start() { # name user password [directive...]: an account in the server's own password file
    local name=$1 user=$2 password=$3 port=${PORT:-21} disk=${DISK:-} dir=$WORK/proftpd bin libs='' modules=/usr/lib/proftpd
    shift 3
    need openssl unshare
    mkdir -p "$dir/home" "$dir/deb"
    chown 2001:2001 "$dir/home"
    chmod 755 "$WORK" "$dir"
    if ! command -v proftpd >/dev/null; then
        need apt-get dpkg
        (cd "$dir/deb" && apt-get -o APT::Sandbox::User=root -qq download proftpd-core proftpd-mod-crypto \
            libhiredis0.14 libmemcached11 libmemcachedutil2 libhashkit2 libpcre2-posix3 && for deb in *.deb; do dpkg -x "$deb" .; done)
        PATH=$dir/deb/usr/sbin:$PATH libs=$dir/deb/usr/lib/x86_64-linux-gnu modules=$dir/deb/usr/lib/proftpd
    fi
    bin=$(command -v proftpd)
    printf '%s:%s:2001:2001::%s:/bin/sh\n' "$user" "$(openssl passwd -6 "$password")" "$dir/home" >"$dir/passwd"
    printf 'users:x:2001:\n' >"$dir/group"
    chmod 600 "$dir/passwd" "$dir/group"
    printf '%s\n' "ModulePath $modules" 'LoadModule mod_deflate.c' 'LoadModule mod_tls.c' \
        'ServerName "files"' 'ServerType standalone' "Port $port" 'User nobody' 'Group nogroup' "PidFile $dir/pid" \
        'ScoreboardFile none' 'WtmpLog off' "SystemLog $WORK/proftpd-system.log" 'TransferLog none' 'UseReverseDNS off' \
        'DefaultRoot ~' 'RequireValidShell off' 'AuthOrder mod_auth_file.c' "AuthUserFile $dir/passwd" "AuthGroupFile $dir/group" \
        'AllowOverwrite on' 'AllowStoreRestart on' 'PassivePorts 50000 50999' 'DelayEngine off' 'ControlsEngine off' 'Umask 022' \
        "$@" >"$dir/proftpd.conf"
    # shellcheck disable=SC2016
    LD_LIBRARY_PATH=$libs start "$name" proftpd unshare -m sh -c '
        if [ -n "$1" ]; then mount -t tmpfs -o "size=$1,uid=2001,gid=2001,mode=755" tmpfs "$0/home"; fi
        exec "$2" -n -c "$0/proftpd.conf"' "$dir" "$disk" "$bin"
    listening "$name" "$port"
}
