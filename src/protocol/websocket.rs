//! WebSocket frames of one direction (RFC 6455 section 5.2).
//!
//! Stream bytes come in; out go stretches of the payload of data frames, still masked, and the closing frame. A
//! payload is passed by arithmetic and never looked at.

/// The longest frame header: two bytes, a length of eight, a mask of four.
const LONGEST_HEADER: usize = 14;
/// The longest payload of a control frame.
const LONGEST_CONTROL: u64 = 125;

/// What comes next in a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Payload of a data frame.
    Payload(&'a [u8]),
    /// The closing frame: no data comes behind it.
    Close,
    /// No WebSocket frame.
    Broken,
}

/// The reader of one direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; LONGEST_HEADER],
    have: usize,
    /// Payload bytes left of the present frame.
    left: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Between frames.
    #[default]
    None,
    Data,
    /// Ping or pong.
    Control,
    Close,
    /// Nothing more is read.
    Over,
}

impl Frames {
    /// Takes what comes next off the bytes; `None` where more are needed.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Event<'a>> {
        loop {
            if self.kind != Kind::None && self.left == 0 {
                match std::mem::take(&mut self.kind) {
                    Kind::Close => {
                        self.kind = Kind::Over;
                        return Some(Event::Close);
                    }
                    Kind::Over => {
                        self.kind = Kind::Over;
                        *bytes = &[];
                        return None;
                    }
                    Kind::None | Kind::Data | Kind::Control => {}
                }
            }
            if bytes.is_empty() {
                return None;
            }
            if self.kind == Kind::None {
                if !self.read_header(bytes) {
                    self.kind = Kind::Over;
                    return Some(Event::Broken);
                }
                continue;
            }
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(length);
            *bytes = rest;
            self.left -= length as u64;
            if self.kind == Kind::Data {
                return Some(Event::Payload(payload));
            }
        }
    }

    /// Passes over lost bytes as far as they lie in the present frame: how many, and how many of them are payload
    /// of a data frame. `None` where the gap swallows a header.
    pub(super) fn skip(&mut self, length: u64) -> Option<(u64, u64)> {
        let taken = match self.kind {
            Kind::None => return None,
            Kind::Over => length,
            Kind::Data | Kind::Control | Kind::Close => length.min(self.left),
        };
        self.left = self.left.saturating_sub(taken);
        let payload = if self.kind == Kind::Data { taken } else { 0 };
        (taken > 0).then_some((taken, payload))
    }

    /// Collects a header, byte by byte; false if it is none.
    fn read_header(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            if let Some(place) = self.header.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            let [first, second, long @ ..] = self.header;
            if self.have < 2 {
                continue;
            }
            let extended = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let mask = if second & 0x80 == 0 { 0 } else { 4 };
            if self.have < 2 + extended + mask {
                continue;
            }
            self.have = 0;
            self.left = match extended {
                0 => u64::from(second & 0x7f),
                _ => long.iter().take(extended).fold(0, |length, byte| length << 8 | u64::from(*byte)),
            };
            let last = first & 0x80 != 0;
            self.kind = match first & 0x0f {
                0x0..=0x2 => Kind::Data,
                0x8 => Kind::Close,
                0x9 | 0xa => Kind::Control,
                _ => return false,
            };
            let fits = self.kind == Kind::Data || (last && self.left <= LONGEST_CONTROL);
            return fits && self.left <= i64::MAX as u64;
        }
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A masked frame as a client sends it.
    pub(in crate::protocol) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut wire = vec![first];
        match payload.len() {
            length @ 0..126 => wire.push(0x80 | length as u8),
            length @ 126..65_536 => {
                wire.push(0x80 | 126);
                wire.extend((length as u16).to_be_bytes());
            }
            length => {
                wire.push(0x80 | 127);
                wire.extend((length as u64).to_be_bytes());
            }
        }
        wire.extend([1, 2, 3, 4]);
        wire.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        wire
    }

    fn read(frames: &mut Frames, mut bytes: &[u8]) -> (u64, bool, bool) {
        let (mut volume, mut closed, mut broken) = (0, false, false);
        while let Some(event) = frames.next(&mut bytes) {
            match event {
                Event::Payload(payload) => volume += payload.len() as u64,
                Event::Close => closed = true,
                Event::Broken => broken = true,
            }
        }
        (volume, closed, broken)
    }

    #[test]
    fn pings_and_the_closing_frame_are_no_data() {
        let wire = [frame(0x02, b"abc"), frame(0x89, b"ping"), frame(0x80, b""), frame(0x88, &[3, 0xe8]), vec![0; 9]];
        assert_eq!(read(&mut Frames::default(), &wire.concat()), (3, true, false));
    }

    #[test]
    fn a_gap_inside_a_payload_is_passed_over_and_one_beyond_it_is_not() {
        let wire = frame(0x82, &[7; 300]);
        let mut frames = Frames::default();
        assert_eq!(read(&mut frames, &wire[..100]), (92, false, false));
        assert_eq!(frames.skip(200), Some((200, 200)));
        assert_eq!(read(&mut frames, &wire[300..]), (8, false, false));
        assert_eq!(frames.skip(1), None);
    }

    #[test]
    fn what_is_no_frame_is_broken() {
        assert!(read(&mut Frames::default(), b"\x83\x80aaaa").2);
        assert!(read(&mut Frames::default(), b"\x09\x80aaaa").2);
        assert!(read(&mut Frames::default(), &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]).2);
    }

    proptest! {
        #[test]
        fn any_segmentation_gives_the_same_volume(
            payloads in prop::collection::vec(0usize..70_000, 0..4),
            cuts in prop::collection::vec(1usize..2000, 0..200)
        ) {
            let mut wire: Vec<u8> = payloads.iter().flat_map(|length| frame(0x82, &vec![5; *length])).collect();
            wire.extend(frame(0x88, b""));
            let (mut frames, mut volume, mut closed, mut rest) = (Frames::default(), 0, false, &wire[..]);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                let got = read(&mut frames, piece);
                volume += got.0;
                closed |= got.1;
                rest = tail;
            }
            prop_assert_eq!((volume, closed), (payloads.iter().sum::<usize>() as u64, true));
        }

        #[test]
        fn nothing_panics(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let mut frames = Frames::default();
            for piece in pieces {
                read(&mut frames, &piece);
                frames.skip(piece.len() as u64);
            }
        }
    }
}
