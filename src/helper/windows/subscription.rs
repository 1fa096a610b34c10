//! A subscription to a channel of the event log.
#![allow(unsafe_code)]

use windows_sys::Win32::System::EventLog::{
    EVT_HANDLE, EvtClose, EvtCreateBookmark, EvtNext, EvtRender, EvtRenderBookmark, EvtRenderEventXml, EvtSubscribe,
    EvtSubscribeStartAfterBookmark, EvtSubscribeStartAtOldestRecord, EvtSubscribeStrict, EvtSubscribeToFutureEvents,
    EvtUpdateBookmark,
};
use windows_sys::Win32::System::Threading::CreateEventW;

use super::handle::Handle;
use super::text::{narrow, wide};

/// A record is at most this long, in bytes of UTF-16.
const LONGEST: usize = 1 << 20;

/// An open handle of the event log.
#[derive(Debug)]
struct Evt(EVT_HANDLE);

// SAFETY: the handle may be used by every thread, one at a time.
unsafe impl Send for Evt {}

impl Evt {
    /// A null is a failure, whatever the last error says.
    fn new(raw: EVT_HANDLE) -> std::io::Result<Self> {
        if raw != 0 {
            return Ok(Self(raw));
        }
        let error = std::io::Error::last_os_error();
        if error.raw_os_error() == Some(0) {
            return Err(std::io::Error::other("there is no event log"));
        }
        Err(error)
    }
}

impl Drop for Evt {
    fn drop(&mut self) {
        // SAFETY: the handle is open and ours, and is not used after this.
        unsafe { EvtClose(self.0) };
    }
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    /// With what comes from now on.
    Now,
    /// With what is there.
    Oldest,
    /// After the record of a bookmark.
    After(&'a str),
}

/// A subscription. Fields are dropped in their order: what uses the signal first.
#[derive(Debug)]
pub struct Subscription {
    results: Evt,
    bookmark: Evt,
    _signal: Handle,
}

impl Subscription {
    /// Subscribes to the records of a channel that the query selects.
    ///
    /// # Errors
    /// If there is no such channel, it may not be read, or the bookmark's record is gone.
    pub fn open(channel: &str, query: &str, begin: Begin<'_>) -> std::io::Result<Self> {
        let (channel, query) = (wide(channel), wide(query));
        // SAFETY: nulls stand for what the event has none of; what is made is ours to close.
        let signal = Handle::new(unsafe { CreateEventW(std::ptr::null(), 0, 0, std::ptr::null()) });
        let signal = signal.ok_or_else(std::io::Error::last_os_error)?;
        let (bookmark, flags) = match begin {
            Begin::Now => (None, EvtSubscribeToFutureEvents),
            Begin::Oldest => (None, EvtSubscribeStartAtOldestRecord),
            Begin::After(mark) => (Some(bookmark(Some(mark))?), EvtSubscribeStartAfterBookmark | EvtSubscribeStrict),
        };
        let from = bookmark.as_ref().map_or(0, |bookmark| bookmark.0);
        // SAFETY: both texts end in a NUL; signal and bookmark are open, and live as long as the subscription.
        let results = unsafe {
            EvtSubscribe(0, signal.raw(), channel.as_ptr(), query.as_ptr(), from, std::ptr::null(), None, flags)
        };
        let results = Evt::new(results)?;
        // Only now is it sure that there is an event log which knows bookmarks.
        let bookmark = bookmark.map_or_else(|| self::bookmark(None), Ok)?;
        Ok(Self { results, bookmark, _signal: signal })
    }

    /// The records that are there now, as XML, and how many could not be read.
    pub fn next(&mut self) -> (Vec<String>, u64) {
        let mut handles: [EVT_HANDLE; 32] = [0; 32];
        let mut count = 0;
        // SAFETY: the subscription is open, and the array has the length that is given.
        let done = unsafe { EvtNext(self.results.0, handles.len() as u32, handles.as_mut_ptr(), 0, 0, &mut count) };
        let mut records = Vec::new();
        let mut unread = 0;
        for handle in handles.into_iter().take(if done == 0 { 0 } else { count as usize }) {
            let Ok(event) = Evt::new(handle) else { continue };
            match render(&event, EvtRenderEventXml) {
                Some(xml) => records.push(xml),
                None => unread += 1,
            }
            // SAFETY: both are open.
            unsafe { EvtUpdateBookmark(self.bookmark.0, event.0) };
        }
        (records, unread)
    }

    /// The bookmark of the last record that was read.
    pub fn bookmark(&self) -> Option<String> {
        render(&self.bookmark, EvtRenderBookmark)
    }
}

/// A bookmark of a text, or one that is to be set.
fn bookmark(mark: Option<&str>) -> std::io::Result<Evt> {
    let mark = mark.map(wide);
    // SAFETY: the text is null or ends in a NUL.
    Evt::new(unsafe { EvtCreateBookmark(mark.as_ref().map_or(std::ptr::null(), |mark| mark.as_ptr())) })
}

fn render(of: &Evt, what: u32) -> Option<String> {
    let mut buffer = vec![0_u16; 4096];
    loop {
        let (mut used, mut properties) = (0, 0);
        // SAFETY: the handle is open, and the buffer has the size in bytes that is given.
        let done = unsafe {
            EvtRender(0, of.0, what, (buffer.len() * 2) as u32, buffer.as_mut_ptr().cast(), &mut used, &mut properties)
        };
        if done != 0 {
            return Some(narrow(&buffer));
        }
        let needed = used as usize / 2 + 1;
        if needed <= buffer.len() || needed > LONGEST / 2 {
            return None;
        }
        buffer.resize(needed, 0);
    }
}
