# shellcheck shell=bash
# What every story's record.sh shares: a small network of namespaces, servers on temporary
# configurations, one tcpdump, and an orderly end.
#
#   home hosts (10.20.0.0/24, fd00:20::/64) -- lan [gw] wan -- servers (documentation ranges)
#
# tcpdump listens on the home side of gw, as a sensor on a mirrored uplink would. There is no way
# out: the namespaces have no route to anything but each other.
#
# A record.sh changes into its own folder and sources this file; the work folder, the router and the
# trap exist from then on.

if [[ $EUID -ne 0 ]]; then
    echo "recording needs root, for network namespaces" >&2
    exit 1
fi

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STORY=$PWD
WORK=$(mktemp -d)
NET=of$$
GW=$NET-gw
SPACES=()
PIDS=()
PORTS=0
TCPDUMP=
export PYTHONDONTWRITEBYTECODE=1 LC_ALL=C TZ=UTC

cleanup() {
    local status=$? pid space
    trap - EXIT INT TERM
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do kill "$pid" 2>/dev/null || true; done
    sleep 0.1
    for space in ${SPACES[@]+"${SPACES[@]}"}; do
        # Children of our servers: whatever still lives in a namespace that we made.
        for pid in $(ip netns pids "$space" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
        ip netns del "$space" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [[ $status -ne 0 ]]; then
        echo "recording failed ($status); last words of the servers and clients:" >&2
        tail -n 20 "$WORK"/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$WORK"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

need() {
    local tool missing=()
    for tool in "$@"; do command -v "$tool" >/dev/null || missing+=("$tool"); done
    if [[ ${#missing[@]} -gt 0 ]]; then
        echo "missing: ${missing[*]} (captures/README.md lists the packages)" >&2
        exit 1
    fi
}
need ip tcpdump ethtool ss tshark editcap python3

quiet_link() { # namespace device: packets as a wire would carry them, no segments of 64 KB, true checksums
    ip netns exec "$1" ethtool -K "$2" tso off gso off gro off tx off >/dev/null 2>&1 || true
}

new_space() { # namespace
    ip netns add "$1"
    SPACES+=("$1")
    ip -n "$1" link set lo up
    ip netns exec "$1" sysctl -qw net.ipv6.conf.all.accept_ra=0 net.ipv6.conf.default.accept_ra=0 \
        net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.accept_dad=0
}

new_space "$GW"
ip netns exec "$GW" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
for bridge in lan wan; do
    ip -n "$GW" link add name "$bridge" type bridge mcast_snooping 0
    ip -n "$GW" link set dev "$bridge" up
    quiet_link "$GW" "$bridge"
done
ip -n "$GW" addr add 10.20.0.1/24 dev lan
ip -n "$GW" addr add fd00:20::1/64 dev lan nodad
for address in 192.0.2.1/24 198.51.100.1/24 203.0.113.1/24; do ip -n "$GW" addr add "$address" dev wan; done
ip -n "$GW" addr add 2001:db8::1/32 dev wan nodad

attach() { # name bridge address/prefix...: a host of its own on one side of gw
    local name=$1 bridge=$2 space=$NET-$1 port address
    shift 2
    PORTS=$((PORTS + 1))
    port=p$PORTS
    new_space "$space"
    ip -n "$GW" link add "$port" type veth peer name eth0 netns "$space"
    ip -n "$GW" link set "$port" master "$bridge" up
    ip -n "$space" link set eth0 up
    quiet_link "$GW" "$port"
    quiet_link "$space" eth0
    for address in "$@"; do
        if [[ $address == *:* ]]; then
            ip -n "$space" addr add "$address" dev eth0 nodad
            if [[ $bridge == lan ]]; then ip -n "$space" route add default via fd00:20::1; else ip -n "$space" route add default via 2001:db8::1; fi
        else
            ip -n "$space" addr add "$address" dev eth0
            ip -n "$space" route add default via "${address%.*}.1"
        fi
    done
}

host() { # name address...: a home host with a Windows machine's TTL and port range
    local name=$1 address sized=()
    shift
    for address in "$@"; do
        if [[ $address == *:* ]]; then sized+=("$address/64"); else sized+=("$address/24"); fi
    done
    attach "$name" lan "${sized[@]}"
    ip netns exec "$NET-$name" sysctl -qw net.ipv4.ip_default_ttl=128 net.ipv6.conf.all.hop_limit=128 \
        net.ipv6.conf.eth0.hop_limit=128 net.ipv4.ip_local_port_range='49152 65535' net.ipv4.tcp_timestamps=0
}

server() { # name address...
    local name=$1 address sized=()
    shift
    for address in "$@"; do
        if [[ $address == *:* ]]; then sized+=("$address/32"); else sized+=("$address/24"); fi
    done
    attach "$name" wan "${sized[@]}"
}

on() { # name command...: a client's command on a host, at most a minute
    local name=$1
    shift
    ip netns exec "$NET-$name" timeout 60 "$@"
}

start() { # name log command...: a server, until the end
    local name=$1 log=$2
    shift 2
    ip netns exec "$NET-$name" "$@" >"$WORK/$log.log" 2>&1 </dev/null &
    PIDS+=("$!")
}

listening() { # name port
    local try
    for try in $(seq 100); do
        if [[ -n $(ip netns exec "$NET-$1" ss -Hltn "sport = :$2") ]]; then return; fi
        sleep 0.05
    done
    echo "nothing listens on port $2 of $1 after $try tries" >&2
    exit 1
}

vsftpd_start() { # name user password [option=value...]: an account that exists in the server's own mounts only
    local name=$1 user=$2 password=$3 dir=$WORK/vsftpd
    shift 3
    need vsftpd openssl unshare
    mkdir -p "$dir/home" "$dir/empty"
    chown 2001:2001 "$dir/home"
    chmod 755 "$WORK" "$dir"
    printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/nonexistent:/bin/false \
        "ftp:x:2002:2002:ftp:$dir/empty:/bin/false" "$user:x:2001:2001::$dir/home:/bin/sh" >"$dir/passwd"
    printf '%s:%s:19700:0:99999:7:::\n' root '*' nobody '*' ftp '*' "$user" "$(openssl passwd -6 "$password")" >"$dir/shadow"
    chmod 600 "$dir/shadow"
    printf '%s\n' 'auth required pam_unix.so' 'account required pam_permit.so' 'session required pam_permit.so' >"$dir/pam"
    printf '%s\n' background=NO listen=YES anonymous_enable=NO local_enable=YES write_enable=YES local_umask=022 \
        seccomp_sandbox=NO pam_service_name=vsftpd "secure_chroot_dir=$dir/empty" chroot_local_user=YES \
        allow_writeable_chroot=YES connect_from_port_20=YES xferlog_enable=NO pasv_min_port=50000 pasv_max_port=50999 \
        "$@" >"$dir/vsftpd.conf"
    # shellcheck disable=SC2016
    start "$name" vsftpd unshare -m sh -c '
        mount --bind "$0/passwd" /etc/passwd; mount --bind "$0/shadow" /etc/shadow
        mount --bind "$0/pam" /etc/pam.d/vsftpd; exec vsftpd "$0/vsftpd.conf"' "$dir"
    listening "$name" 21
}

pureftpd_start() { # name user password: the package conflicts with vsftpd, so it is unpacked beside it
    local name=$1 user=$2 password=$3 dir=$WORK/pureftpd bin
    mkdir -p "$dir/home" "$dir/deb"
    chown 2001:2001 "$dir/home"
    chmod 755 "$WORK" "$dir"
    if ! command -v pure-ftpd >/dev/null; then
        need apt-get dpkg
        (cd "$dir/deb" && apt-get -o APT::Sandbox::User=root -qq download pure-ftpd pure-ftpd-common && for deb in *.deb; do dpkg -x "$deb" .; done)
        PATH=$dir/deb/usr/sbin:$dir/deb/usr/bin:$PATH
    fi
    bin=$(command -v pure-ftpd)
    printf '%s\n%s\n' "$password" "$password" |
        pure-pw useradd "$user" -f "$dir/passwd" -u 2001 -g 2001 -d "$dir/home" >/dev/null
    pure-pw mkdb "$dir/users.pdb" -f "$dir/passwd"
    start "$name" pureftpd "$bin" -A -E -H -l "puredb:$dir/users.pdb" -p 50000:50999 -g "$dir/pid"
    listening "$name" 21
}

nginx_start() { # name port (or "port http2", in the clear), then the inside of the server block on standard input
    local name=$1 port=$2 dir=$WORK/nginx
    need nginx
    mkdir -p "$dir/root" "$dir/tmp"
    {
        echo 'load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;'
        cat <<CONF
user root; worker_processes 1; daemon off; pid $dir/pid; error_log $dir/error.log;
events { worker_connections 64; }
http {
    access_log off; server_tokens on; client_max_body_size 16m;
    client_body_temp_path $dir/tmp; proxy_temp_path $dir/tmp; fastcgi_temp_path $dir/tmp;
    uwsgi_temp_path $dir/tmp; scgi_temp_path $dir/tmp;
    server {
        listen $port; listen [::]:$port; root $dir/root;
CONF
        cat
        echo '    } }'
    } >"$dir/nginx.conf"
    start "$name" nginx nginx -p "$dir" -c "$dir/nginx.conf" -e "$dir/error.log"
    listening "$name" "${port%% *}"
}

receiver_start() { # name port [option...]: receiver.py, a plain HTTP server that takes whatever it is sent
    local name=$1 port=$2
    shift 2
    start "$name" receiver python3 "$HERE/receiver.py" "$port" "$@"
    listening "$name" "$port"
}

squid_start() { # name port [line...]: a forward proxy without a cache, with more lines for its configuration
    local name=$1 port=$2 dir=$WORK/squid squid=/usr/sbin/squid
    shift 2
    need "$squid"
    mkdir -p "$dir"
    chmod 755 "$WORK"
    chown proxy "$dir"
    printf '%s\n' "http_port $port" "pid_filename $dir/pid" "cache_log $dir/cache.log" "access_log none" "cache deny all" \
        "coredump_dir $dir" "acl CONNECT method CONNECT" "$@" "http_access allow all" "shutdown_lifetime 0 seconds" \
        "pinger_enable off" "netdb_filename none" "visible_hostname proxy.example" >"$dir/squid.conf"
    start "$name" squid "$squid" --foreground -f "$dir/squid.conf"
    listening "$name" "$port"
}

make_file() { # kind size seed path: the same bytes each time
    mkdir -p "$(dirname "$4")"
    python3 "$HERE/make_file.py" "$@"
    touch -d '2024-11-04 09:12:00' "$4"
}

capture_start() { # PRECISION=nano before it: a capture in nanoseconds
    local try
    : >"$WORK/tcpdump.log"
    ip netns exec "$GW" timeout 120 tcpdump -i lan -U --immediate-mode -s 0 -B 2048 -n -Z root \
        --time-stamp-precision "${PRECISION:-micro}" -w "$WORK/capture.pcap" 2>"$WORK/tcpdump.log" &
    TCPDUMP=$!
    PIDS+=("$TCPDUMP")
    for try in $(seq 100); do
        if grep -q 'listening on' "$WORK/tcpdump.log"; then sleep 0.2; return; fi
        sleep 0.05
    done
    echo "tcpdump did not start after $try tries" >&2
    exit 1
}

capture_stop() {
    sleep 0.5
    kill -TERM "$TCPDUMP"
    wait "$TCPDUMP" || true
    if ! grep -q '^0 packets dropped by kernel' "$WORK/tcpdump.log"; then
        cat "$WORK/tcpdump.log" >&2
        exit 1
    fi
}

finish() { # the event file and the expectations, with this recording's times and ports, and their check
    cp "$WORK/capture.pcap" "$STORY/capture.pcap"
    chmod 644 "$STORY/capture.pcap"
    PYTHONPATH=$HERE python3 "$STORY/story.py" "$STORY" "$WORK"
    python3 "$HERE/verify.py" "$STORY"
}

to_pcapng() { # after finish: the same packets in the other file format
    editcap -F pcapng "$STORY/capture.pcap" "$WORK/capture.pcapng"
    cp "$WORK/capture.pcapng" "$STORY/capture.pcap"
    python3 "$HERE/verify.py" "$STORY"
}
