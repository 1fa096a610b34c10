use super::*;

/// The samples that `make.sh` beside them made.
macro_rules! sample {
    ($name:literal) => {
        &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/archives/", $name))[..]
    };
}

fn seven(file: &[u8]) -> Option<bool> {
    assert_eq!(leading(&file[..512.min(file.len())]).map(|a| a.format), Some("7z"));
    let (range, header) = sevenzip::end(file)?;
    sevenzip::encrypted(&file[range.start as usize..range.end as usize], header)
}

fn shown(head: &[u8]) -> Option<(&'static str, Option<bool>)> {
    leading(head.get(..512).unwrap_or(head)).map(|archive| (archive.format, archive.encrypted))
}

#[test]
fn a_7z_archive_tells_at_its_end_whether_it_is_encrypted() {
    for plain in [
        sample!("plain-one.7z"),
        sample!("plain-folder.7z"),
        sample!("plain-many.7z"),
        sample!("plain-header.7z"),
        sample!("empty.7z"),
    ] {
        assert_eq!(seven(plain), Some(false));
    }
    for encrypted in [
        sample!("files-one.7z"),
        sample!("files-folder.7z"),
        sample!("files-many.7z"),
        sample!("files-header.7z"),
        sample!("names.7z"),
    ] {
        assert_eq!(seven(encrypted), Some(true));
    }
}

#[test]
fn the_packed_header_of_a_7z_archive_is_believed_only_with_its_checksum() {
    let mut file = sample!("files-folder.7z").to_vec();
    let (range, header) = sevenzip::end(&file).unwrap();
    file[range.start as usize + header - 20] ^= 1;
    assert_eq!(seven(&file), None);
}

#[test]
fn no_change_of_a_7z_archive_makes_its_reader_panic_or_swell() {
    // A small generator of its own: every byte is changed in turn, and pairs of bytes at random.
    let file = sample!("files-many.7z");
    let (range, header) = sevenzip::end(file).unwrap();
    let end = &file[range.start as usize..range.end as usize];
    for at in 0..end.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = end.to_vec();
            changed[at] ^= change;
            sevenzip::encrypted(&changed, header);
            sevenzip::encrypted(&changed[..at], header.min(at));
        }
    }
    let mut random = 1_u64;
    for _ in 0..20_000 {
        let mut changed = end.to_vec();
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) as usize % changed.len();
            changed[at] = (random >> 24) as u8;
        }
        sevenzip::encrypted(&changed, header);
    }
}

#[test]
fn a_zip_archive_tells_in_its_first_headers_whether_it_is_encrypted() {
    for plain in [sample!("plain-7z.zip"), sample!("plain-streamed.zip"), sample!("plain-folder.zip")] {
        assert_eq!(shown(plain), Some(("zip", Some(false))));
    }
    // The folder comes first, without the flag.
    for encrypted in [sample!("classic-7z.zip"), sample!("aes-7z.zip"), sample!("classic-folder.zip")] {
        assert_eq!(shown(encrypted), Some(("zip", Some(true))));
    }
    assert_eq!(shown(sample!("empty.zip")), Some(("zip", Some(false))), "there is nothing to encrypt");
    assert_eq!(shown(&sample!("plain-7z.zip")[..20]), Some(("zip", None)), "cut within the first header");
}

// The leading bytes of archives that RAR 3 and RAR 5 made, from the test files of rarfile 4.5 (ISC licence).
const RAR_3_PLAIN: &str = "526172211a0700cf907300000d00000000000000e2c37420903700060000000600000003c7a404c9\
    36a8f4501d301200a48100007375625c646972325c66696c";
const RAR_3_FILES: &str = "526172211a0700cf907300000d00000000000000d2997a00802300160000000b00000003bc50ec75\
    000000001d33030000000000434d540c008beccbf656c148298f00e5bfe6fff0d06b6a767a6dd674249433001000000000000000\
    03000000006c50623d1d330900a481000066696c65312e747874b30e2f01101f65bd00c0";
const RAR_3_NAMES: &str = "526172211a0700ce997380000d0000000000000098d53ab9";
const RAR_5_PLAIN: &str = "526172211a070100f3e182eb0b01050700060101808080002638f5c413030294000494000086eaa5\
    9580000103434d54524152352061726368697665202d206372630a0084f6f41a2802030bb700048010a48302a2e6b7c58003010a\
    7374657374312e7478740a030280cc2097e628cc01c4aa34443424fa32eb47fac44d7dbd";
const RAR_5_FILES: &str = "526172211a070100f3e182eb0b0105070006010180808000d6669e6e1303029f00049f000022437e\
    a980000103434d54524152352061726368697665202d206e6f6864722d70617373776f72640a00989bd98e5902033cc000048010\
    a48302eaee28ba8003010a7374657374312e747874300100030f7e982cdd1ae21c36c7a3";
const RAR_5_NAMES: &str = "526172211a070100aff5694521040000010fa798cbfb5c85ea540a42d4d4c287";

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_rar_archive_tells_in_its_first_blocks_whether_it_is_encrypted() {
    for (head, encrypted) in [
        (RAR_3_PLAIN, Some(false)),
        (RAR_3_FILES, Some(true)),
        (RAR_3_NAMES, Some(true)),
        (RAR_5_PLAIN, Some(false)),
        (RAR_5_FILES, Some(true)),
        (RAR_5_NAMES, Some(true)),
    ] {
        assert_eq!(shown(&bytes(head)), Some(("rar", encrypted)), "{head}");
    }
    assert_eq!(shown(&bytes(RAR_5_FILES)[..90]), Some(("rar", None)), "cut before the first file");
}

#[test]
fn openpgp_messages_are_encrypted_and_keys_are_not_messages() {
    for message in [sample!("symmetric.gpg"), sample!("symmetric.asc"), sample!("public.gpg")] {
        assert_eq!(shown(message), Some(("openpgp", Some(true))));
    }
    assert_eq!(shown(sample!("key.gpg")), None);
}

#[test]
fn formats_without_encryption_say_so_and_text_is_no_archive() {
    assert_eq!(shown(b"\x1f\x8b\x08\0\0\0\0\0"), Some(("gzip", Some(false))));
    assert_eq!(shown(b"BZh91AY&SYabc"), Some(("bzip2", Some(false))));
    assert_eq!(shown(b"BZhang wrote this"), None);
    assert_eq!(shown(b"age-encryption.org/v1\n-> X25519"), Some(("age", Some(true))));
    assert_eq!(shown(b""), None);
}
