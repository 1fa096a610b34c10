//! File names in header fields: `Content-Disposition: form-data; name="f"; filename="a.zip"` (RFC 6266,
//! RFC 7578), with `filename*=UTF-8''a%20b` (RFC 8187).

/// The parameter's value in a header field such as `type; a=b; c="d \" e"`.
pub(super) fn parameter<'a>(field: &'a str, wanted: &str) -> Option<std::borrow::Cow<'a, str>> {
    let mut rest = field;
    // What stands before the first semicolon is the type itself.
    loop {
        let semicolon = find_outside_quotes(rest, b';')?;
        rest = rest.get(semicolon + 1..)?;
        let end = find_outside_quotes(rest, b';').unwrap_or(rest.len());
        let item = rest.get(..end)?;
        if let Some((name, value)) = item.split_once('=')
            && name.trim().eq_ignore_ascii_case(wanted)
        {
            return Some(unquote(value.trim()));
        }
    }
}

/// The name of a file: `filename*` where it can be read, else `filename`; only its last part.
pub(super) fn file_name(field: &str) -> Option<String> {
    let name = match parameter(field, "filename*").and_then(|value| extended(&value)) {
        Some(name) => name,
        None => parameter(field, "filename")?.into_owned(),
    };
    let name = last_part(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The last part of a path of either kind.
pub(crate) fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn find_outside_quotes(text: &str, wanted: u8) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == wanted && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn unquote(value: &str) -> std::borrow::Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"') else { return value.into() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if !inner.contains("\\\"") {
        // A lone backslash is part of a Windows path: browsers have always sent it bare.
        return inner.into();
    }
    inner.replace("\\\"", "\"").into()
}

/// `charset'language'percent-encoded`; UTF-8 and Latin-1.
fn extended(value: &str) -> Option<String> {
    let mut parts = value.splitn(3, '\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = percent_decode(encoded);
    match charset.to_ascii_lowercase().as_str() {
        "utf-8" => Some(String::from_utf8_lossy(&bytes).into_owned()),
        "iso-8859-1" => Some(bytes.iter().map(|b| *b as char).collect()),
        _ => None,
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_plain_quoted_and_extended() {
        assert_eq!(file_name("form-data; name=f; filename=a.zip").as_deref(), Some("a.zip"));
        assert_eq!(file_name(r#"form-data; name="f"; filename="a;b.zip""#).as_deref(), Some("a;b.zip"));
        assert_eq!(file_name(r#"attachment; filename="x"; filename*=UTF-8''%e2%82%ac%20r"#).as_deref(), Some("€ r"));
        assert_eq!(file_name(r#"form-data; filename="C:\Users\a\b.doc""#).as_deref(), Some("b.doc"));
        assert_eq!(file_name(r#"form-data; filename="say \"hi\".txt""#).as_deref(), Some(r#"say "hi".txt"#));
        assert_eq!(file_name(r#"form-data; name="f""#), None);
        assert_eq!(file_name(r#"form-data; filename="""#), None);
    }

    #[test]
    fn a_parameter_is_found_by_its_whole_name() {
        assert_eq!(parameter("multipart/form-data; boundary=ab", "boundary").as_deref(), Some("ab"));
        assert_eq!(parameter("multipart/form-data; xboundary=ab", "boundary"), None);
    }
}
