//! A script: what each side of a conversation says, in a form that survives being cut and spliced.
//!
//! A step begins with the mark `ff fe` and a letter; its content runs to the next mark. What stands before the first
//! mark is said by the client.
//!
//! | letter | step |
//! |---|---|
//! | `C`, `S` | client or server says the content, in one piece |
//! | `c`, `s` | the same, a byte at a time |
//! | `G`, `g` | the tap lost bytes of the client or server; the content is their number, little-endian, two bytes |
//! | `F`, `f` | client or server sends its last byte |
//! | `W` | time passes: seconds, two bytes |
//! | `O` | another connection opens: kind, port |
//! | `N` | what follows is of the next connection |
//! | `X` | the connection ends |
//! | others | said in pieces of a length that the letter tells, by the client if it is odd |

use crate::Bytes;

const MARK: [u8; 2] = [0xff, 0xfe];

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Server,
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// In pieces of at most `piece` bytes.
    Say {
        who: Who,
        bytes: Vec<u8>,
        piece: usize,
    },
    Gap {
        who: Who,
        length: u64,
    },
    Finish(Who),
    Wait {
        seconds: u64,
    },
    Open {
        kind: u8,
        port: u16,
    },
    Next,
    Close,
}

/// Reads a script; every input is one.
pub fn read(input: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = input;
    let mut letter = b'C';
    loop {
        let end = rest.windows(2).position(|pair| pair == MARK);
        let content = &rest[..end.unwrap_or(rest.len())];
        steps.extend(step(letter, content));
        let Some(end) = end else { return steps };
        rest = &rest[end + 2..];
        let Some((next, behind)) = rest.split_first() else { return steps };
        (letter, rest) = (*next, behind);
    }
}

fn step(letter: u8, content: &[u8]) -> Option<Step> {
    let mut numbers = Bytes(content);
    let say = |who, piece| (!content.is_empty()).then(|| Step::Say { who, bytes: content.to_vec(), piece });
    match letter {
        b'C' => say(Who::Client, usize::MAX),
        b'S' => say(Who::Server, usize::MAX),
        b'c' => say(Who::Client, 1),
        b's' => say(Who::Server, 1),
        b'G' => Some(Step::Gap { who: Who::Client, length: u64::from(numbers.u16()) + 1 }),
        b'g' => Some(Step::Gap { who: Who::Server, length: u64::from(numbers.u16()) + 1 }),
        b'F' => Some(Step::Finish(Who::Client)),
        b'f' => Some(Step::Finish(Who::Server)),
        b'W' => Some(Step::Wait { seconds: u64::from(numbers.u16()) }),
        b'O' => Some(Step::Open { kind: numbers.u8(), port: numbers.u16() }),
        b'N' => Some(Step::Next),
        b'X' => Some(Step::Close),
        other => say(if other & 1 == 1 { Who::Client } else { Who::Server }, usize::from(other >> 1) + 1),
    }
}

/// Whether any byte of the conversation is lost.
pub fn has_gap(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Gap { .. }))
}

/// The same script with everything said in one piece, neighbouring words of a speaker joined.
pub fn joined(steps: &[Step]) -> Vec<Step> {
    let mut whole: Vec<Step> = Vec::new();
    for step in steps {
        match (whole.last_mut(), step) {
            (Some(Step::Say { who: last, bytes: said, .. }), Step::Say { who, bytes, .. }) if last == who => {
                said.extend_from_slice(bytes);
            }
            (_, Step::Say { who, bytes, .. }) => {
                whole.push(Step::Say { who: *who, bytes: bytes.clone(), piece: usize::MAX });
            }
            _ => whole.push(step.clone()),
        }
    }
    whole
}
