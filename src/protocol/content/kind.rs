//! The type of a file by its leading bytes, and whether that contradicts what it is called.

/// How many leading bytes are kept until the type is told; a tar archive shows itself only at byte 262.
pub(super) const LEADING: usize = 512;

/// The media type that the leading bytes show, if they show one.
pub(super) fn detect(head: &[u8]) -> Option<&'static str> {
    let found = infer::get(head)?.mime_type();
    let at = |place: usize| head.get(place).copied().unwrap_or_default();
    // Marks of two letters or so also begin texts and random bytes; those need more to be believed.
    let believed = match found {
        "application/octet-stream" => false,
        "image/bmp" => head.get(6..10) == Some(&[0; 4]) && matches!(at(14), 12 | 40 | 52 | 56 | 64 | 108 | 124),
        "application/vnd.microsoft.portable-executable" => {
            let header = head.get(0x3c..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes));
            header.is_some_and(|offset| (0x40..0x1_0000).contains(&offset))
        }
        "application/x-executable" => head.starts_with(b"\x7fELF"),
        "application/pdf" => head.get(..64).unwrap_or(head).windows(5).any(|window| window == b"%PDF-"),
        "audio/mpeg" => head.starts_with(b"ID3"),
        "audio/aac" | "audio/x-aac" => false,
        "application/x-compress" => matches!(at(2) & 0x1f, 9..=16) && at(2) & 0x60 == 0,
        "application/x-x509-ca-cert" => head.starts_with(b"-----BEGIN"),
        _ => true,
    };
    believed.then_some(found)
}

/// A family of names: extensions and declared types (a trailing `*` stands for any rest), and what the leading bytes
/// of such a file may show.
struct Family {
    extensions: &'static [&'static str],
    declared: &'static [&'static str],
    shows: &'static [&'static str],
}

const ZIP: [&str; 5] = [
    "application/zip",
    "application/epub+zip",
    "application/vnd.openxmlformats-officedocument.*",
    "application/vnd.oasis.opendocument.*",
    "application/x-ole-storage",
];

/// Only names whose files begin in a known way, and so can be contradicted. Where programs are known to write
/// something else under a name, that is in the list: an encrypted OOXML document is an OLE file, an old `.xls`
/// may be HTML.
const FAMILIES: [Family; 14] = [
    Family {
        extensions: &["zip", "docx", "docm", "xlsx", "xlsm", "pptx", "pptm", "odt", "ods", "odp", "epub", "jar", "apk"],
        declared: &[
            "application/zip",
            "application/x-zip-compressed",
            "application/epub+zip",
            "application/java-archive",
            "application/vnd.openxmlformats-officedocument.*",
            "application/vnd.oasis.opendocument.*",
        ],
        shows: &ZIP,
    },
    Family {
        extensions: &["doc", "xls", "ppt"],
        declared: &["application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"],
        shows: &[
            "application/msword",
            "application/vnd.ms-*",
            "application/x-ole-storage",
            "application/rtf",
            "application/zip",
            "application/vnd.openxmlformats-officedocument.*",
            "text/*",
        ],
    },
    Family {
        extensions: &["pdf"],
        declared: &["application/pdf", "application/x-pdf"],
        shows: &["application/pdf", "application/postscript"],
    },
    Family { extensions: &["rtf"], declared: &["application/rtf", "text/rtf"], shows: &["application/rtf", "text/*"] },
    Family { extensions: &["7z"], declared: &["application/x-7z-compressed"], shows: &["application/x-7z-compressed"] },
    Family {
        extensions: &["rar"],
        declared: &["application/vnd.rar", "application/x-rar-compressed", "application/x-rar"],
        shows: &["application/vnd.rar"],
    },
    Family {
        extensions: &["gz", "tgz"],
        declared: &["application/gzip", "application/x-gzip"],
        shows: &["application/gzip"],
    },
    Family {
        extensions: &["bz2", "tbz2"],
        declared: &["application/x-bzip2", "application/x-bzip"],
        shows: &["application/x-bzip2"],
    },
    Family { extensions: &["xz", "txz"], declared: &["application/x-xz"], shows: &["application/x-xz"] },
    Family { extensions: &["zst"], declared: &["application/zstd"], shows: &["application/zstd"] },
    Family {
        extensions: &["tar"],
        declared: &["application/x-tar", "application/x-gtar"],
        // A compressed tar archive is often declared as what is inside.
        shows: &[
            "application/x-tar",
            "application/gzip",
            "application/x-bzip2",
            "application/x-xz",
            "application/zstd",
            "application/x-compress",
        ],
    },
    Family {
        extensions: &["jpg", "jpeg", "png", "gif", "bmp", "webp", "tif", "tiff", "ico", "heic"],
        declared: &["image/*"],
        shows: &["image/*", "text/xml", "text/html", "application/postscript", "video/mp4"],
    },
    Family {
        extensions: &["mp3", "mp4", "m4a", "m4v", "mov", "avi", "mkv", "webm", "wav", "flac", "ogg", "wma", "wmv"],
        declared: &["audio/*", "video/*"],
        shows: &["audio/*", "video/*", "application/ogg", "image/heif"],
    },
    Family {
        extensions: &["txt", "log", "csv", "tsv", "json", "xml", "html", "htm", "css", "ini", "md", "yaml", "yml"],
        declared: &[
            "text/*",
            "application/json",
            "application/xml",
            "application/x-www-form-urlencoded",
            "application/x-ndjson",
        ],
        // Text in any form; a key or a certificate in PEM is text too.
        shows: &["text/*", "application/rtf", "application/postscript", "application/x-x509-ca-cert"],
    },
];

/// Whether the type that leading bytes showed contradicts a file's extension or declared type. What says nothing,
/// such as `application/octet-stream`, an unknown name or none at all, contradicts nothing.
pub(super) fn contradicts(detected: &str, name: Option<&str>, declared: Option<&str>) -> bool {
    let shows = |family: &Family| family.shows.iter().any(|pattern| fits(pattern, detected));
    let extension = name.and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension.to_ascii_lowercase());
    let declared = declared.map(|text| text.split(';').next().unwrap_or(text).trim().to_ascii_lowercase());
    let by_name = |family: &&Family| extension.as_deref().is_some_and(|own| family.extensions.contains(&own));
    let by_type = |family: &&Family| {
        declared.as_deref().is_some_and(|own| family.declared.iter().any(|pattern| fits(pattern, own)))
    };
    FAMILIES.iter().filter(by_name).any(|family| !shows(family))
        // The first family that claims a declared type speaks for it: text/rtf is rich text before it is text.
        || FAMILIES.iter().find(by_type).is_some_and(|family| !shows(family))
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => text == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_type_is_told_by_leading_bytes_and_not_by_two_letters_of_a_text() {
        let mut tar = vec![0; LEADING];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(detect(&tar), Some("application/x-tar"));
        assert_eq!(detect(b"%PDF-1.7\n%abc"), Some("application/pdf"));
        assert_eq!(detect(b"PK\x03\x04\x14\0\0\0"), Some("application/zip"));
        for text in
            [&b"BM is short for"[..], b"MZ begins this text, which goes on", b"a file that says %PDF", b"0\x82ab"]
        {
            assert_eq!(detect(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_says_nothing_contradicts_nothing_and_containers_fit_their_contents() {
        let zip = "application/zip";
        let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        for (detected, name, declared) in [
            (zip, Some("a.zip"), Some("application/octet-stream")),
            (zip, Some("a.docx"), Some(docx)),
            (zip, Some("a.jar"), None),
            (docx, Some("a.zip"), Some("application/x-zip-compressed")),
            (zip, Some("noextension"), None),
            (zip, Some("a.bin"), Some("application/octet-stream")),
            ("application/x-ole-storage", Some("a.xlsx"), None),
            ("text/html", Some("a.xls"), Some("application/vnd.ms-excel")),
            ("application/gzip", Some("a.tar.gz"), Some("application/x-tar")),
            ("image/png", Some("a.jpg"), Some("image/jpeg")),
            ("text/xml", Some("a.svg"), Some("image/svg+xml")),
            ("application/rtf", Some("a.rtf"), Some("text/rtf; charset=utf-8")),
        ] {
            assert!(!contradicts(detected, name, declared), "{detected} {name:?} {declared:?}");
        }
        for (detected, name, declared) in [
            (zip, Some("a.txt"), None),
            (zip, None, Some("text/plain; charset=utf-8")),
            ("application/x-7z-compressed", Some("holiday.JPG"), Some("application/octet-stream")),
            ("application/vnd.rar", Some("a.zip"), None),
            (zip, None, Some("application/x-www-form-urlencoded")),
            ("application/vnd.microsoft.portable-executable", Some("a.pdf"), None),
        ] {
            assert!(contradicts(detected, name, declared), "{detected} {name:?} {declared:?}");
        }
    }

    proptest! {
        #[test]
        fn no_leading_bytes_panic(magic in 0usize..12, tail in prop::collection::vec(any::<u8>(), 0..LEADING)) {
            const MAGICS: [&[u8]; 12] = [b"", b"PK\x03\x04", b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00", b"7z\xbc\xaf\x27\x1c",
                b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"MZ", b"\x1aE\xdf\xa3", b"\x28\xb5\x2f\xfd", b"\x85", b"II*\0", b"RIFF"];
            let head = [MAGICS[magic], &tail].concat();
            detect(&head);
            super::super::archive::leading(&head);
        }
    }
}
