//! A session of Event Tracing for Windows, read as it happens.
#![allow(unsafe_code)]

use std::mem::{size_of, zeroed};

use windows_sys::Win32::Foundation::ERROR_ALREADY_EXISTS;
use windows_sys::Win32::System::Diagnostics::Etw::{
    CONTROLTRACE_HANDLE, CloseTrace, ControlTraceW, ENABLE_TRACE_PARAMETERS, ENABLE_TRACE_PARAMETERS_VERSION_2,
    EVENT_CONTROL_CODE_CAPTURE_STATE, EVENT_CONTROL_CODE_ENABLE_PROVIDER, EVENT_FILTER_DESCRIPTOR,
    EVENT_FILTER_TYPE_EVENT_ID, EVENT_HEADER_FLAG_32_BIT_HEADER, EVENT_RECORD, EVENT_TRACE_CONTROL_QUERY,
    EVENT_TRACE_CONTROL_STOP, EVENT_TRACE_LOGFILEW, EVENT_TRACE_PROPERTIES, EVENT_TRACE_REAL_TIME_MODE, EnableTraceEx2,
    OpenTraceW, PROCESS_TRACE_MODE_EVENT_RECORD, PROCESS_TRACE_MODE_REAL_TIME, PROCESSTRACE_HANDLE, ProcessTrace,
    StartTraceW, TRACE_LEVEL_INFORMATION, WNODE_FLAG_TRACED_GUID,
};
use windows_sys::core::GUID;

use super::text::wide;
use crate::helper::layout::filetime;
use crate::net::Timestamp;

/// Room for the name behind the properties, in UTF-16 units.
const NAME: usize = 128;

/// The properties as the functions want them: the name's room follows.
#[repr(C)]
struct Properties {
    properties: EVENT_TRACE_PROPERTIES,
    name: [u16; NAME],
}

impl Properties {
    fn new() -> Self {
        // SAFETY: all zero is a value of this plain structure.
        let mut properties: EVENT_TRACE_PROPERTIES = unsafe { zeroed() };
        properties.Wnode.BufferSize = size_of::<Self>() as u32;
        properties.Wnode.Flags = WNODE_FLAG_TRACED_GUID;
        // Time stamps of the system's clock.
        properties.Wnode.ClientContext = 2;
        properties.LogFileMode = EVENT_TRACE_REAL_TIME_MODE;
        // 64 KiB each, 1 MiB to 8 MiB together, handed on every second.
        properties.BufferSize = 64;
        properties.MinimumBuffers = 16;
        properties.MaximumBuffers = 128;
        properties.FlushTimer = 1;
        properties.LoggerNameOffset = size_of::<EVENT_TRACE_PROPERTIES>() as u32;
        Self { properties, name: [0; NAME] }
    }
}

/// A session; it ends when this is dropped.
pub struct Session {
    handle: CONTROLTRACE_HANDLE,
    name: Vec<u16>,
}

/// What a session could not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Events for which there was no buffer.
    pub events: u32,
    /// Buffers that were not read in time.
    pub buffers: u32,
}

impl Session {
    /// Begins a session, in the place of one that an earlier run has left behind.
    ///
    /// # Errors
    /// The system's error.
    pub fn start(name: &str) -> Result<Self, u32> {
        let name = wide(name);
        for _ in 0..2 {
            let mut handle = CONTROLTRACE_HANDLE::default();
            let mut properties = Properties::new();
            // SAFETY: the name ends in a NUL; the properties say how large they are, with the room behind them.
            match unsafe { StartTraceW(&mut handle, name.as_ptr(), (&raw mut properties).cast()) } {
                0 => return Ok(Self { handle, name }),
                ERROR_ALREADY_EXISTS => stop(&name),
                error => return Err(error),
            }
        }
        Err(ERROR_ALREADY_EXISTS)
    }

    /// Has a provider send these events, and then say what is there already.
    ///
    /// # Errors
    /// The system's error.
    pub fn enable(&self, provider: u128, keywords: u64, ids: &[u16]) -> Result<(), u32> {
        let guid = GUID::from_u128(provider);
        // EVENT_FILTER_EVENT_ID: whether the list is of what is wanted, a reserved byte, its length, the list.
        let mut filter = vec![1_u8, 0];
        filter.extend((ids.len() as u16).to_le_bytes());
        filter.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        let mut descriptor = EVENT_FILTER_DESCRIPTOR {
            Ptr: filter.as_ptr() as u64,
            Size: filter.len() as u32,
            Type: EVENT_FILTER_TYPE_EVENT_ID,
        };
        // SAFETY: all zero is a value of this plain structure.
        let mut parameters: ENABLE_TRACE_PARAMETERS = unsafe { zeroed() };
        parameters.Version = ENABLE_TRACE_PARAMETERS_VERSION_2;
        parameters.EnableFilterDesc = &mut descriptor;
        parameters.FilterDescCount = 1;
        let control = |code, parameters: *const ENABLE_TRACE_PARAMETERS| {
            // SAFETY: the session runs; the parameters are null, or point to a filter that outlives the call.
            unsafe {
                EnableTraceEx2(self.handle, &guid, code, TRACE_LEVEL_INFORMATION as u8, keywords, 0, 0, parameters)
            }
        };
        match control(EVENT_CONTROL_CODE_ENABLE_PROVIDER, &parameters) {
            0 => {
                // A provider that cannot say what is there loses nothing by it.
                control(EVENT_CONTROL_CODE_CAPTURE_STATE, std::ptr::null());
                Ok(())
            }
            error => Err(error),
        }
    }

    /// What the session has lost since it began.
    pub fn lost(&self) -> Option<Lost> {
        let mut properties = Properties::new();
        // SAFETY: as in `start`.
        let error = unsafe {
            ControlTraceW(self.handle, std::ptr::null(), (&raw mut properties).cast(), EVENT_TRACE_CONTROL_QUERY)
        };
        let properties = properties.properties;
        (error == 0).then_some(Lost { events: properties.EventsLost, buffers: properties.RealTimeBuffersLost })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        stop(&self.name);
    }
}

fn stop(name: &[u16]) {
    let mut properties = Properties::new();
    // SAFETY: the name ends in a NUL; the properties are as in `start`.
    unsafe {
        ControlTraceW(
            CONTROLTRACE_HANDLE::default(),
            name.as_ptr(),
            (&raw mut properties).cast(),
            EVENT_TRACE_CONTROL_STOP,
        )
    };
}

/// An event, as long as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The provider's GUID.
    pub provider: u128,
    /// Its number.
    pub id: u16,
    /// The version of its layout.
    pub version: u8,
    /// The process that it happened in.
    pub pid: u32,
    /// When.
    pub ts: Timestamp,
    /// The size of a pointer in it, in bytes.
    pub pointer: usize,
    /// Its fields.
    pub data: &'a [u8],
}

/// What looks at events.
pub type Look<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// A session that is open for reading.
pub struct Reading<'a> {
    handle: PROCESSTRACE_HANDLE,
    look: Box<Look<'a>>,
}

impl<'a> Reading<'a> {
    /// Opens the session of this name; `look` sees its events in [`run`](Self::run).
    ///
    /// # Errors
    /// The system's error.
    pub fn open(name: &str, look: Look<'a>) -> Result<Self, std::io::Error> {
        let look = Box::new(look);
        let mut name = wide(name);
        // SAFETY: all zero is a value of this plain structure.
        let mut log: EVENT_TRACE_LOGFILEW = unsafe { zeroed() };
        log.LoggerName = name.as_mut_ptr();
        log.Anonymous1.ProcessTraceMode = PROCESS_TRACE_MODE_REAL_TIME | PROCESS_TRACE_MODE_EVENT_RECORD;
        log.Anonymous2.EventRecordCallback = Some(callback);
        log.Context = (&raw const *look).cast_mut().cast();
        // SAFETY: the name outlives the call, and the context outlives the handle, which is closed before it is dropped.
        let handle = unsafe { OpenTraceW(&mut log) };
        // INVALID_PROCESSTRACE_HANDLE, which 32-bit systems give with fewer bits.
        if handle.Value == u64::MAX || handle.Value == u64::from(u32::MAX) {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self { handle, look })
    }

    /// Looks at events until the session ends.
    pub fn run(&self) -> u32 {
        let _ = &self.look;
        // SAFETY: the handle is open, and there is one.
        unsafe { ProcessTrace(&self.handle, 1, std::ptr::null(), std::ptr::null()) }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is open and ours, and is not used after this.
        unsafe { CloseTrace(self.handle) };
    }
}

unsafe extern "system" fn callback(record: *mut EVENT_RECORD) {
    // SAFETY: the system hands over a record that is whole until this returns, with the context that was given.
    let (record, look) = unsafe {
        let Some(record) = record.as_ref() else { return };
        let Some(look) = record.UserContext.cast::<Look<'_>>().as_ref() else { return };
        (record, look)
    };
    let header = &record.EventHeader;
    let data = if record.UserData.is_null() {
        &[]
    } else {
        // SAFETY: the record says how many bytes are there.
        unsafe { std::slice::from_raw_parts(record.UserData.cast::<u8>(), usize::from(record.UserDataLength)) }
    };
    let guid = header.ProviderId;
    let provider = u128::from(guid.data1) << 96
        | u128::from(guid.data2) << 80
        | u128::from(guid.data3) << 64
        | u128::from(u64::from_be_bytes(guid.data4));
    look(Event {
        provider,
        id: header.EventDescriptor.Id,
        version: header.EventDescriptor.Version,
        pid: header.ProcessId,
        ts: u64::try_from(header.TimeStamp).ok().and_then(filetime).unwrap_or_default(),
        pointer: if u32::from(header.Flags) & EVENT_HEADER_FLAG_32_BIT_HEADER == 0 { 8 } else { 4 },
        data,
    });
}
