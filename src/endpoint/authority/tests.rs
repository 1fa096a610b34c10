use super::*;

fn later(seconds: u64) -> Timestamp {
    now().after(Span::seconds(seconds))
}

fn fingerprint(credentials: &Credentials) -> (Fingerprint, Option<String>) {
    let der = CertificateDer::from_pem_slice(credentials.certificate.as_bytes()).unwrap();
    (Fingerprint::of(&der), named_host(&der))
}

#[test]
fn the_authority_is_made_once_and_taken_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = Authority::open(folder.path()).unwrap().certificate;
    let server_first = server(folder.path()).unwrap();
    assert_eq!(Authority::open(folder.path()).unwrap().certificate, first);
    assert_eq!(server(folder.path()).unwrap().certificate, server_first.certificate);
    for name in ["authority.key", "authority.crt", "sensor.key", "sensor.crt"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_start_that_was_cut_short_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    Authority::open(folder.path()).unwrap();
    std::fs::remove_file(folder.path().join("authority.crt")).unwrap();
    std::fs::remove_file(folder.path().join("sensor.key")).unwrap();
    std::fs::remove_file(folder.path().join("sensor.crt")).unwrap();
    Authority::open(folder.path()).unwrap();
    assert!(server(folder.path()).is_ok());
}

#[test]
fn a_damaged_key_is_said_and_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    Authority::open(folder.path()).unwrap();
    std::fs::write(folder.path().join("authority.key"), "no key").unwrap();
    assert!(matches!(Authority::open(folder.path()), Err(AuthorityError::Damaged { .. })));
    assert_eq!(std::fs::read_to_string(folder.path().join("authority.key")).unwrap(), "no key");
    std::fs::remove_file(folder.path().join("authority.key")).unwrap();
    assert!(matches!(Authority::open(folder.path()), Err(AuthorityError::File { .. })));
}

#[test]
fn a_certificate_names_its_host_until_it_is_revoked_or_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let (valid, name) = fingerprint(&authority.enroll("WKS-0142", later(100)).unwrap());
    assert_eq!(name.as_deref(), Some("WKS-0142"));
    let (old, _) = fingerprint(&authority.enroll("wks-0142", now().before(Span::seconds(5))).unwrap());
    let (other, _) = fingerprint(&authority.enroll("srv_1.example", later(100)).unwrap());
    let standings = || {
        let roll = Roll::read(folder.path()).unwrap();
        [valid, old, other].map(|certificate| roll.standing(&certificate, now()))
    };
    assert_eq!(standings(), [Standing::Valid, Standing::Expired, Standing::Valid]);
    assert_eq!(authority.revoke("wks-0142").unwrap(), 2);
    assert_eq!(standings(), [Standing::Revoked, Standing::Revoked, Standing::Valid]);
    assert!(matches!(authority.revoke("WKS-0142"), Err(AuthorityError::NotEnrolled(_))));
    let (again, _) = fingerprint(&authority.enroll("WKS-0142", later(100)).unwrap());
    assert_eq!(Roll::read(folder.path()).unwrap().standing(&again, now()), Standing::Valid);
    assert_eq!(Roll::default().standing(&again, now()), Standing::Unknown);
}

#[test]
fn a_line_that_was_cut_short_swallows_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    std::fs::write(folder.path().join(ROLL), "{\"certificate\":\"00").unwrap();
    let (certificate, _) = fingerprint(&authority.enroll("a", later(100)).unwrap());
    let roll = Roll::read(folder.path()).unwrap();
    assert_eq!((roll.damaged, roll.standing(&certificate, now())), (1, Standing::Valid));
}

#[test]
fn what_a_certificate_cannot_hold_is_no_name_of_a_host() {
    for name in ["WKS-0142", "a", "srv_1.corp.example", "4c4c4544-0042-3510-8058-b7c04f4d3132"] {
        assert!(is_host_name(name), "{name}");
    }
    for name in ["", ".", "a b", "a/b", "10.0.0.5", "123", "::1", "a..b", "-a-", "m\u{fc}n", "a.", &"x".repeat(64)] {
        assert!(!is_host_name(name), "{name}");
    }
}
