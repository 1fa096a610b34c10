//! Reading lines whose length is bounded.

use std::io::{BufRead, ErrorKind};

/// What reading a line came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// A line, without its line feed.
    Line,
    /// A line longer than the bound; the buffer holds its beginning.
    TooLong,
    /// No more lines.
    End,
}

/// Reads up to the next line feed or the end into `line`, keeping at most `max` bytes of it.
pub(super) fn read_line(input: &mut impl BufRead, max: usize, line: &mut Vec<u8>) -> std::io::Result<Read> {
    line.clear();
    let mut any = false;
    let mut too_long = false;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(match (any, too_long) {
                (false, _) => Read::End,
                (true, true) => Read::TooLong,
                (true, false) => Read::Line,
            });
        }
        any = true;
        let end = memchr::memchr(b'\n', chunk);
        let part = end.and_then(|end| chunk.get(..end)).unwrap_or(chunk);
        let room = max.saturating_sub(line.len());
        too_long |= part.len() > room;
        line.extend(part.iter().take(room));
        let used = end.map_or(chunk.len(), |end| end.saturating_add(1));
        input.consume(used);
        if end.is_some() {
            return Ok(if too_long { Read::TooLong } else { Read::Line });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn lines(text: &[u8], max: usize, buffer: usize) -> Vec<(Read, Vec<u8>)> {
        let mut input = BufReader::with_capacity(buffer, text);
        let mut line = Vec::new();
        let mut all = Vec::new();
        loop {
            match read_line(&mut input, max, &mut line).unwrap() {
                Read::End => return all,
                read => all.push((read, line.clone())),
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        for buffer in [1, 3, 100] {
            let expected =
                vec![(Read::Line, b"ab".to_vec()), (Read::TooLong, b"cdef".to_vec()), (Read::Line, b"xy".to_vec())];
            assert_eq!(lines(b"ab\ncdefgh\nxy", 4, buffer), expected, "buffer of {buffer}");
        }
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_whole() {
        assert_eq!(lines(b"abcd\n", 4, 2), vec![(Read::Line, b"abcd".to_vec())]);
        assert_eq!(lines(b"abcd", 4, 2), vec![(Read::Line, b"abcd".to_vec())]);
    }

    #[test]
    fn empty_lines_are_lines_and_an_empty_input_has_none() {
        assert_eq!(lines(b"\n\n", 4, 2).len(), 2);
        assert!(lines(b"", 4, 2).is_empty());
    }
}
