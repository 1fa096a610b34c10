//! Header blocks (HPACK, RFC 7541): a library decodes the fields, within bounds that are checked here first.

use httlib_hpack::Decoder as Fields;

/// The largest dynamic table that is followed; browsers ask for 64 KiB.
const LARGEST_TABLE: u32 = 64 << 10;
/// The table's size until the encoder changes it (RFC 9113 section 6.5.2).
const FIRST_TABLE: u32 = 4096;
/// What a field costs beside its text (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// A block that cannot be followed: the table that later blocks refer to is unknown from then on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It breaks the syntax.
    Syntax,
    /// Its fields are longer than the limit, or it asks for a table beyond all use.
    TooLong,
}

/// Decodes the header blocks of one direction.
#[derive(Debug)]
pub(super) struct Headers {
    fields: Fields<'static>,
    /// The most bytes that the dynamic table can have come to, as HPACK counts them.
    table: usize,
}

impl Headers {
    pub(super) fn new() -> Self {
        let mut fields = Fields::with_dynamic_size(FIRST_TABLE);
        // What the receiver's SETTINGS allow need not be known: the encoder announces the size that it uses.
        fields.set_max_dynamic_size(LARGEST_TABLE);
        Self { fields, table: 0 }
    }

    /// The most bytes that are held.
    pub(super) fn weight(&self) -> usize {
        // Short fields take more than the 32 bytes that HPACK counts for them.
        2 * self.table
    }

    /// Decodes a block whose fields take at most `most` bytes.
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        most: usize,
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Broken> {
        let mut total = 0;
        let mut rest = block;
        let mut decoded = Vec::with_capacity(1);
        // One by one, so that a block of a few bytes that stands for many megabytes ends at the limit.
        while !rest.is_empty() {
            // The library takes it that a field is whole, and panics where an integer is not.
            let length = length_of_field(rest).ok_or(Broken::Syntax)?;
            let (one, others) = rest.split_at_checked(length).ok_or(Broken::Syntax)?;
            rest = others;
            let is_added = one.first().is_some_and(|first| (0x40..=0x7f).contains(first));
            self.fields.decode(&mut one.to_vec(), &mut decoded).map_err(|error| match error {
                httlib_hpack::DecoderError::InvalidMaxDynamicSize => Broken::TooLong,
                _ => Broken::Syntax,
            })?;
            for (name, value, _) in decoded.drain(..) {
                let size = name.len() + value.len() + FIELD_OVERHEAD;
                if is_added {
                    self.table = (self.table + size).min(LARGEST_TABLE as usize);
                }
                total += size;
                if total > most {
                    return Err(Broken::TooLong);
                }
                field(&name, &value);
            }
        }
        Ok(())
    }
}

/// How many bytes a field's representation takes (RFC 7541 section 6).
fn length_of_field(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let prefix = match first {
        // Indexed field; change of the table's size.
        0x80.. => return integer(bytes, 7).map(|(_, length)| length),
        0x20..=0x3f => return integer(bytes, 5).map(|(_, length)| length),
        // Literal, to be added to the table or not.
        0x40..=0x7f => 6,
        0x00..=0x1f => 4,
    };
    let (name, mut length) = integer(bytes, prefix)?;
    if name == 0 {
        length += length_of_string(bytes.get(length..)?)?;
    }
    length += length_of_string(bytes.get(length..)?)?;
    Some(length)
}

fn length_of_string(bytes: &[u8]) -> Option<usize> {
    let (text, length) = integer(bytes, 7)?;
    let whole = length + text as usize;
    (whole <= bytes.len()).then_some(whole)
}

/// An integer with a prefix of so many bits (RFC 7541 section 5.1): its value and its length, at most five bytes.
fn integer(bytes: &[u8], prefix: u32) -> Option<(u32, usize)> {
    let (first, rest) = bytes.split_first()?;
    let full = (1 << prefix) - 1;
    let mut value = u32::from(*first) & full;
    if value < full {
        return Some((value, 1));
    }
    for (n, byte) in rest.iter().take(4).enumerate() {
        value += u32::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 2));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Texts = Vec<(String, String)>;

    fn decode(headers: &mut Headers, block: &[u8], most: usize) -> Result<Texts, Broken> {
        let mut fields = Vec::new();
        headers.decode(block, most, |name, value| {
            fields.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()));
        })?;
        Ok(fields)
    }

    fn texts(fields: &[(&str, &str)]) -> Texts {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// RFC 7541 appendix C.4: requests with Huffman coding on one connection.
    #[test]
    fn later_blocks_refer_to_the_fields_of_earlier_ones() {
        let mut headers = Headers::new();
        let first =
            [0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let basic = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(decode(&mut headers, &first, 4096), Ok(texts(&basic)));
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let more = [&basic[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(decode(&mut headers, &second, 4096), Ok(texts(&more)));
    }

    #[test]
    fn a_field_that_is_cut_short_is_broken() {
        for block in [&[0x3f][..], &[0xff], &[0x7f, 0x80], &[0x40], &[0x40, 0x01], &[0x01, 0xff, 0xff], &[0x80]] {
            assert_eq!(decode(&mut Headers::new(), block, 4096), Err(Broken::Syntax), "{block:?}");
        }
    }

    #[test]
    fn a_small_block_that_stands_for_much_ends_at_the_limit() {
        // A field of 3,000 bytes that goes into the table, and a thousand references to it.
        let mut block = vec![0x40, 0x01, b'a', 0x7f, 0xb9, 0x16];
        block.extend([b'x'; 3000]);
        block.extend([0xbe; 1000]);
        assert_eq!(decode(&mut Headers::new(), &block, 64 << 10), Err(Broken::TooLong));
        let table_of_a_mebibyte = [0x3f, 0xe1, 0xff, 0x3f];
        assert_eq!(decode(&mut Headers::new(), &table_of_a_mebibyte, 4096), Err(Broken::TooLong));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn nothing_panics_or_exceeds_the_limit(
            blocks in prop::collection::vec(prop::collection::vec(prop_oneof![
                any::<u8>(), prop::sample::select(vec![0x3f, 0x20, 0x40, 0x82, 0xbe, 0xbf, 0xff, 0x7f, 0x00, 0x01, 0x81])
            ], 0..60), 1..4)
        ) {
            let mut headers = Headers::new();
            for block in blocks {
                if let Ok(fields) = decode(&mut headers, &block, 300) {
                    prop_assert!(fields.iter().map(|(n, v)| n.chars().count() + v.chars().count() + 32).sum::<usize>() <= 300);
                }
            }
        }
    }
}
