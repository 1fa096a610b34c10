//! What an upload tells of the files in it: what the join looks for on the host.

use crate::endpoint::base_name;
use crate::record::{FileInfo, State, Upload};

/// One file of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its base name.
    pub(super) name: Option<String>,
    /// Its size in bytes, what a resumed transfer left out included.
    pub(super) size: Option<u64>,
    /// Its SHA-256, hexadecimal.
    pub(super) sha256: Option<String>,
}

/// The files of an upload; one without a name if it tells of none.
pub(super) fn wanted(upload: &Upload) -> Vec<Wanted> {
    let resumed = upload.ftp.as_ref().map_or(0, |ftp| ftp.restart);
    // What runs has no size yet, and what is compressed on the way has another.
    let as_it_is = upload.ftp.as_ref().is_none_or(|ftp| matches!(ftp.mode, 'S' | '\0'));
    let whole = Some(upload.bytes).filter(|_| upload.state != State::Running && as_it_is);
    let put = upload.http.as_ref().filter(|http| http.method.eq_ignore_ascii_case("PUT"));
    let put = put.and_then(|http| last_segment(&http.url));
    let single = upload.files.len() <= 1;
    let read = |info: &FileInfo| {
        let given = info.name.as_deref().or(info.path.as_deref()).map(|name| base_name(name).to_owned());
        Wanted {
            name: given.or_else(|| put.clone().filter(|_| single)).filter(|name| !name.is_empty()),
            size: info.size.or(whole.filter(|_| single)).map(|size| size.saturating_add(resumed)),
            // What went over the wire may have been changed for it; if it equals a file, it was not.
            sha256: info.sha256.clone().or(upload.body.sha256.clone().filter(|_| single)).filter(|_| resumed == 0),
        }
    };
    if upload.files.is_empty() { vec![read(&FileInfo::default())] } else { upload.files.iter().map(read).collect() }
}

/// The last segment of a request target's path, percent-decoded.
fn last_segment(target: &str) -> Option<String> {
    let path = target.split(['?', '#']).next().unwrap_or(target);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let segment = path.rsplit('/').next()?;
    let name = percent_decoded(segment);
    Some(base_name(&name).to_owned()).filter(|name| !name.is_empty())
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            _ => decoded.push(byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_the_wire_finds_a_file_that_was_sent_as_text_and_was_not_changed() {
        let mut upload = crate::join::tests::upload(7, &["a.txt"]);
        upload.files[0].size = None;
        upload.body.sha256 = Some("abcd".into());
        let ftp = crate::record::Ftp { mode: 'S', data_type: Some('A'), ..Default::default() };
        upload.ftp = Some(Box::new(ftp.clone()));
        let found = wanted(&upload);
        assert_eq!((found[0].sha256.as_deref(), found[0].size), (Some("abcd"), Some(7)));
        upload.ftp = Some(Box::new(crate::record::Ftp { mode: 'Z', ..ftp.clone() }));
        assert_eq!(wanted(&upload)[0].size, None, "compressed");
        upload.ftp = Some(Box::new(crate::record::Ftp { restart: 3, ..ftp }));
        assert_eq!((wanted(&upload)[0].sha256.as_deref(), wanted(&upload)[0].size), (None, Some(10)));
    }

    #[test]
    fn the_name_of_a_put_is_the_last_segment_decoded() {
        assert_eq!(last_segment("/up/old%20%C3%BC.7z?x=/y").as_deref(), Some("old ü.7z"));
        assert_eq!(last_segment("http://h:8080/a/b.zip#f").as_deref(), Some("b.zip"));
        assert_eq!(last_segment("http://h").as_deref(), None);
        assert_eq!(last_segment("/up/").as_deref(), None);
        assert_eq!(last_segment("/100%").as_deref(), Some("100%"));
        assert_eq!(last_segment("/a%2Fb%5Cc.txt").as_deref(), Some("c.txt"));
        assert_eq!(last_segment("/%zz%4").as_deref(), Some("%zz%4"));
    }
}
