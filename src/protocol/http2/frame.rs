//! HTTP/2 frames of one direction (RFC 9113 sections 4 and 6).
//!
//! Stream bytes come in; out go stretches of DATA payload, whole header blocks, and the ends of streams. DATA and
//! what does not matter here are passed by arithmetic and never looked at.

/// What a client sends first (RFC 9113 section 3.4).
pub(in crate::protocol) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const GOAWAY: u8 = 0x7;
const CONTINUATION: u8 = 0x9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What comes next in a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// Bytes of a stream's body.
    Data { stream: u32, bytes: &'a [u8] },
    /// The sender has ended the stream with its last DATA.
    End { stream: u32 },
    /// A header block with its continuations. `own` is false where it belongs to no request or response of its
    /// own (a promise), and only the table needs it.
    Headers { stream: u32, own: bool, end: bool, block: Vec<u8> },
    /// RST_STREAM.
    Reset { stream: u32 },
    /// GOAWAY with the last stream that the sender dealt with.
    GoAway { last: u32 },
    /// A header block beyond the limit was passed over.
    TooLong,
    /// No HTTP/2; nothing more is read.
    Broken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    /// `length (24), type (8), flags (8), reserved (1), stream (31)`.
    fn read([a, b, c, kind, flags, stream @ ..]: [u8; 9]) -> Self {
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    /// What each side sends first: SETTINGS that acknowledge nothing.
    fn is_first(self) -> bool {
        self.kind == SETTINGS
            && self.stream == 0
            && self.flags == 0
            && self.length.is_multiple_of(6)
            && self.length < 1 << 16
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[derive(Debug)]
enum Place {
    /// In the client's preface, behind so many bytes.
    Preface(usize),
    /// In a frame's head.
    Head([u8; 9], usize),
    /// At the length of the padding of a DATA frame.
    Padding(Head),
    /// In a body: bytes left, and bytes of padding behind them.
    Data { stream: u32, left: usize, padding: usize, end: bool },
    /// In what is passed over; the stream that ends behind it.
    Skip { left: usize, end: Option<u32> },
    /// In a frame whose payload is needed.
    Collect(Head, Vec<u8>),
    /// Nothing more is read.
    Lost,
}

const NEXT: Place = Place::Head([0; 9], 0);

/// A header block that waits for its continuation.
#[derive(Debug)]
struct Open {
    stream: u32,
    own: bool,
    end: bool,
    block: Vec<u8>,
    /// Bytes of it are lost, or it is beyond the limit.
    spoilt: bool,
}

/// The reader of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    place: Place,
    open: Option<Open>,
    /// No frame has come yet.
    first: bool,
}

/// What passing over a gap did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Bytes of the gap that were accounted for.
    pub(super) taken: u64,
    /// The body that they belong to.
    pub(super) body: Option<u32>,
    /// They were part of a header block.
    pub(super) headers: bool,
}

impl Frames {
    /// The client's direction begins with the preface, the server's with SETTINGS.
    pub(super) fn new(client: bool) -> Self {
        Self { place: if client { Place::Preface(0) } else { NEXT }, open: None, first: true }
    }

    /// Bytes that are held.
    pub(super) fn weight(&self) -> usize {
        let payload = if let Place::Collect(_, payload) = &self.place { payload.capacity() } else { 0 };
        payload + self.open.as_ref().map_or(0, |open| open.block.capacity())
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }

    pub(super) fn lose(&mut self) {
        self.place = Place::Lost;
        self.open = None;
    }

    /// Takes what comes next off the bytes; `None` where more are needed. `most` bounds a header block.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8], most: usize) -> Option<Event<'a>> {
        loop {
            match &mut self.place {
                Place::Lost => {
                    *bytes = &[];
                    return None;
                }
                Place::Skip { left: 0, end } => {
                    let end = *end;
                    self.place = NEXT;
                    if let Some(stream) = end {
                        return Some(Event::End { stream });
                    }
                }
                Place::Data { left: 0, padding, stream, end } => {
                    self.place = Place::Skip { left: *padding, end: end.then_some(*stream) };
                }
                Place::Collect(head, payload) if payload.len() == head.length => {
                    let (head, payload) = (*head, std::mem::take(payload));
                    self.place = NEXT;
                    if let Some(event) = self.collected(head, &payload, most) {
                        return Some(event);
                    }
                }
                _ if bytes.is_empty() => return None,
                Place::Preface(have) => {
                    let want = PREFACE.get(*have..).unwrap_or_default();
                    let got = take(bytes, want.len());
                    if !want.starts_with(got) {
                        return Some(self.broken());
                    }
                    *have += got.len();
                    if *have == PREFACE.len() {
                        self.place = NEXT;
                    }
                }
                Place::Head(head, have) => {
                    let got = take(bytes, head.len() - *have);
                    for (to, from) in head.iter_mut().skip(*have).zip(got) {
                        *to = *from;
                    }
                    *have += got.len();
                    if *have == head.len() {
                        let head = Head::read(*head);
                        if let Some(event) = self.begin(head, most) {
                            return Some(event);
                        }
                    }
                }
                Place::Padding(head) => {
                    let head = *head;
                    let padding = take(bytes, 1).first().copied().map_or(0, usize::from);
                    // Padding longer than its frame is an error (RFC 9113 section 6.1).
                    let Some(left) = (head.length - 1).checked_sub(padding) else { return Some(self.broken()) };
                    self.place = Place::Data { stream: head.stream, left, padding, end: head.has(END_STREAM) };
                }
                Place::Data { stream, left, .. } => {
                    let body = take(bytes, *left);
                    *left -= body.len();
                    return Some(Event::Data { stream: *stream, bytes: body });
                }
                Place::Skip { left, .. } => *left -= take(bytes, *left).len(),
                Place::Collect(head, payload) => {
                    let wanted = head.length - payload.len();
                    payload.extend_from_slice(take(bytes, wanted));
                }
            }
        }
    }

    /// A frame's head was read: where are its bytes to go?
    fn begin(&mut self, head: Head, most: usize) -> Option<Event<'static>> {
        if std::mem::take(&mut self.first) && !head.is_first() {
            return Some(self.broken());
        }
        // Nothing may stand between a header block and its continuation (RFC 9113 section 6.10).
        let continues = self.open.as_ref().map(|open| open.stream);
        if (head.kind == CONTINUATION || continues.is_some())
            && (head.kind != CONTINUATION || continues != Some(head.stream))
        {
            return Some(self.broken());
        }
        let on_a_stream = matches!(head.kind, DATA | HEADERS | RST_STREAM | PUSH_PROMISE | CONTINUATION);
        let too_short = match head.kind {
            DATA => usize::from(head.has(PADDED)),
            RST_STREAM => 4,
            GOAWAY => 8,
            _ => 0,
        };
        if (on_a_stream && head.stream == 0) || head.length < too_short {
            return Some(self.broken());
        }
        self.place = match head.kind {
            DATA if head.has(PADDED) => Place::Padding(head),
            DATA => Place::Data { stream: head.stream, left: head.length, padding: 0, end: head.has(END_STREAM) },
            HEADERS | PUSH_PROMISE | CONTINUATION => {
                let before = self.open.as_ref().map_or(0, |open| open.block.len());
                if before + head.length <= most {
                    Place::Collect(head, Vec::new())
                } else {
                    self.place = Place::Skip { left: head.length, end: None };
                    self.spoil(head);
                    return Some(Event::TooLong);
                }
            }
            RST_STREAM | GOAWAY if head.length <= most => Place::Collect(head, Vec::new()),
            _ => Place::Skip { left: head.length, end: None },
        };
        None
    }

    /// A frame's payload is complete.
    fn collected(&mut self, head: Head, payload: &[u8], most: usize) -> Option<Event<'static>> {
        let number = |at: usize| {
            let bytes = payload.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?) & 0x7fff_ffff)
        };
        match head.kind {
            RST_STREAM => Some(Event::Reset { stream: head.stream }),
            GOAWAY => Some(Event::GoAway { last: number(0)? }),
            CONTINUATION => {
                let open = self.open.as_mut()?;
                if !open.spoilt {
                    open.block.extend_from_slice(payload);
                }
                self.end_of_headers(head)
            }
            _ => {
                let Some(fragment) = fragment(head, payload) else { return Some(self.broken()) };
                let mut block = Vec::with_capacity(fragment.len().min(most));
                block.extend_from_slice(fragment);
                let (own, end) = (head.kind == HEADERS, head.kind == HEADERS && head.has(END_STREAM));
                self.open = Some(Open { stream: head.stream, own, end, block, spoilt: false });
                self.end_of_headers(head)
            }
        }
    }

    fn end_of_headers(&mut self, head: Head) -> Option<Event<'static>> {
        if !head.has(END_HEADERS) {
            return None;
        }
        let Open { stream, own, end, block, spoilt } = self.open.take()?;
        (!spoilt).then_some(Event::Headers { stream, own, end, block })
    }

    /// A part of a header block is not to be had: the block is followed to its end, for the framing's sake.
    fn spoil(&mut self, head: Head) {
        let (own, end) = (head.kind == HEADERS, false);
        let open = self.open.get_or_insert(Open { stream: head.stream, own, end, block: Vec::new(), spoilt: true });
        open.spoilt = true;
        open.block = Vec::new();
        if head.has(END_HEADERS) {
            self.open = None;
        }
    }

    /// Passes over lost bytes as far as they lie in the present frame. `None` where the gap swallows a head.
    pub(super) fn skip(&mut self, length: u64) -> Option<Skipped> {
        let within = |left: usize| usize::try_from(length).unwrap_or(usize::MAX).min(left);
        let (taken, body, mut headers) = match &mut self.place {
            Place::Preface(_) | Place::Head(..) | Place::Padding(_) | Place::Lost => return None,
            Place::Data { stream, left, .. } => {
                let taken = within(*left);
                *left -= taken;
                (taken, Some(*stream), false)
            }
            Place::Skip { left, .. } => {
                let taken = within(*left);
                *left -= taken;
                (taken, None, false)
            }
            Place::Collect(head, payload) => {
                let left = head.length - payload.len();
                let (head, taken) = (*head, within(left));
                self.place = Place::Skip { left: left - taken, end: None };
                let headers = matches!(head.kind, HEADERS | PUSH_PROMISE | CONTINUATION);
                if headers {
                    self.spoil(head);
                }
                (taken, None, headers)
            }
        };
        headers &= taken > 0;
        (taken > 0).then_some(Skipped { taken: taken as u64, body, headers })
    }

    fn broken(&mut self) -> Event<'static> {
        self.lose();
        Event::Broken
    }
}

/// The part of a HEADERS or PUSH_PROMISE payload that is the block: behind the length of the padding, the
/// priority or the promised stream, and before the padding.
fn fragment(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let (padding, mut rest) = match head.has(PADDED) {
        true => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
        false => (0, payload),
    };
    if head.kind == PUSH_PROMISE {
        rest = rest.get(4..)?;
    } else if head.has(PRIORITY) {
        rest = rest.get(5..)?;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

/// Whether these are a server's first bytes, as far as they go: the head of SETTINGS.
pub(in crate::protocol) fn begins_settings(bytes: &[u8]) -> Option<bool> {
    match bytes.first_chunk() {
        Some(head) => Some(Head::read(*head).is_first()),
        None => {
            let possible = bytes
                .iter()
                .take(5)
                .zip([None, None, None, Some(SETTINGS), Some(0)])
                .all(|(byte, want)| want.is_none_or(|want| *byte == want));
            // No one sends 64 KiB of settings.
            let short = bytes.first().is_none_or(|byte| *byte == 0);
            if possible && short { None } else { Some(false) }
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}
