//! The helper as a Windows service.
#![allow(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{ERROR_CALL_NOT_IMPLEMENTED, NO_ERROR};
use windows_sys::Win32::System::Services::{
    CloseServiceHandle, ControlService, CreateServiceW, DeleteService, OpenSCManagerW, OpenServiceW,
    QueryServiceStatus, RegisterServiceCtrlHandlerExW, SC_HANDLE, SC_MANAGER_CONNECT, SC_MANAGER_CREATE_SERVICE,
    SERVICE_ACCEPT_SHUTDOWN, SERVICE_ACCEPT_STOP, SERVICE_ALL_ACCESS, SERVICE_AUTO_START, SERVICE_CONTROL_INTERROGATE,
    SERVICE_CONTROL_SHUTDOWN, SERVICE_CONTROL_STOP, SERVICE_ERROR_NORMAL, SERVICE_RUNNING, SERVICE_START_PENDING,
    SERVICE_STATUS, SERVICE_STATUS_HANDLE, SERVICE_STOP_PENDING, SERVICE_STOPPED, SERVICE_TABLE_ENTRYW,
    SERVICE_WIN32_OWN_PROCESS, SetServiceStatus, StartServiceCtrlDispatcherW, StartServiceW,
};

use super::text::wide;
use crate::helper::config::Config;
use crate::helper::stop::Stop;

const NAME: &str = "outfall-helper";
const DISPLAY: &str = "Outfall endpoint helper";

/// How long a stop may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A handle of the service manager.
struct Service(SC_HANDLE);

impl Drop for Service {
    fn drop(&mut self) {
        // SAFETY: the handle is open and ours, and is not used after this.
        unsafe { CloseServiceHandle(self.0) };
    }
}

fn failed(what: &str) -> String {
    let error = std::io::Error::last_os_error();
    let hint = if error.raw_os_error() == Some(5) { "; run it as an administrator" } else { "" };
    format!("{what}: {error}{hint}")
}

fn manager(access: u32) -> Result<Service, String> {
    // SAFETY: nulls stand for this machine and its services; what is opened is ours to close.
    let manager = unsafe { OpenSCManagerW(std::ptr::null(), std::ptr::null(), access) };
    if manager.is_null() { Err(failed("cannot open the service manager")) } else { Ok(Service(manager)) }
}

fn service() -> Result<Service, String> {
    let manager = manager(SC_MANAGER_CONNECT)?;
    let name = wide(NAME);
    // SAFETY: the manager is open, and the name ends in a NUL; what is opened is ours to close.
    let service = unsafe { OpenServiceW(manager.0, name.as_ptr(), SERVICE_ALL_ACCESS) };
    if service.is_null() { Err(failed("cannot open the service")) } else { Ok(Service(service)) }
}

/// Makes a service of this program, with this configuration.
pub fn install(config: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // Quoted, so that a path with spaces starts no other program. Neither path can hold a quotation mark on Windows.
    let command = format!("\"{}\" service --config \"{}\"", program.display(), config.display());
    let manager = manager(SC_MANAGER_CREATE_SERVICE)?;
    let (name, display, command) = (wide(NAME), wide(DISPLAY), wide(command));
    // SAFETY: the manager is open, and every text ends in a NUL; nulls stand for what the service has none of, and for
    // the account of the local system.
    let service = unsafe {
        CreateServiceW(
            manager.0,
            name.as_ptr(),
            display.as_ptr(),
            SERVICE_ALL_ACCESS,
            SERVICE_WIN32_OWN_PROCESS,
            SERVICE_AUTO_START,
            SERVICE_ERROR_NORMAL,
            command.as_ptr(),
            std::ptr::null(),
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    if service.is_null() {
        return Err(failed("cannot make the service"));
    }
    drop(Service(service));
    println!("the service {NAME} is there; outfall-helper start starts it now, and Windows does from now on");
    Ok(())
}

/// Starts the service.
pub fn start() -> Result<(), String> {
    let service = service()?;
    // SAFETY: the service is open; it takes no arguments.
    if unsafe { StartServiceW(service.0, 0, std::ptr::null()) } == 0 {
        return Err(failed("cannot start the service"));
    }
    wait(&service, SERVICE_RUNNING)
}

/// Stops the service.
pub fn stop() -> Result<(), String> {
    let service = service()?;
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the service is open, and the status is ours.
    if unsafe { ControlService(service.0, SERVICE_CONTROL_STOP, &mut status) } == 0 {
        return Err(failed("cannot stop the service"));
    }
    wait(&service, SERVICE_STOPPED)
}

/// Removes the service.
pub fn remove() -> Result<(), String> {
    let service = service()?;
    // SAFETY: the service is open.
    if unsafe { DeleteService(service.0) } == 0 { Err(failed("cannot remove the service")) } else { Ok(()) }
}

fn wait(service: &Service, state: u32) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut status = SERVICE_STATUS::default();
        // SAFETY: the service is open, and the status is ours.
        if unsafe { QueryServiceStatus(service.0, &mut status) } == 0 {
            return Err(failed("the service says nothing"));
        }
        match status.dwCurrentState {
            now if now == state => return Ok(()),
            SERVICE_STOPPED => return Err("the service ended at once; its log says why".to_owned()),
            _ if Instant::now() > end => return Err("the service takes too long".to_owned()),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What the service's functions share, as the system calls them with nothing.
struct Shared {
    config: PathBuf,
    stop: Arc<Stop>,
    problem: Mutex<Option<String>>,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// Runs as the service that the manager has started.
pub fn dispatch(config: PathBuf) -> Result<(), String> {
    let shared = SHARED.get_or_init(|| Shared { config, stop: Arc::default(), problem: Mutex::default() });
    let mut name = wide(NAME);
    let none = SERVICE_TABLE_ENTRYW { lpServiceName: std::ptr::null_mut(), lpServiceProc: None };
    let table = [SERVICE_TABLE_ENTRYW { lpServiceName: name.as_mut_ptr(), lpServiceProc: Some(service_main) }, none];
    // SAFETY: the table ends with an empty entry, and lives until the call returns, which is when the service ends.
    if unsafe { StartServiceCtrlDispatcherW(table.as_ptr()) } == 0 {
        return Err(failed("this is for the service manager to start"));
    }
    shared.problem.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

extern "system" fn service_main(_count: u32, _arguments: *mut windows_sys::core::PWSTR) {
    let Some(shared) = SHARED.get() else { return };
    let name = wide(NAME);
    // SAFETY: the name ends in a NUL; the handler is a function of this program that needs no context.
    let handle = unsafe { RegisterServiceCtrlHandlerExW(name.as_ptr(), Some(control), std::ptr::null()) };
    if handle.is_null() {
        return;
    }
    report(handle, SERVICE_START_PENDING, 0);
    let result = Config::load(&shared.config).map_err(|error| error.to_string()).and_then(|config| {
        report(handle, SERVICE_RUNNING, 0);
        crate::helper::command::work(&config, &shared.stop, false, false)
    });
    let failed = result.is_err();
    if let Err(problem) = result {
        // Without a configuration there is no log to say it in.
        let _ = std::fs::write(shared.config.with_extension("error.txt"), format!("{problem}\n"));
        *shared.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }
    report(handle, SERVICE_STOPPED, u32::from(failed));
}

extern "system" fn control(
    control: u32,
    _kind: u32,
    _data: *mut core::ffi::c_void,
    _context: *mut core::ffi::c_void,
) -> u32 {
    match control {
        SERVICE_CONTROL_STOP | SERVICE_CONTROL_SHUTDOWN => {
            if let Some(shared) = SHARED.get() {
                shared.stop.set();
            }
            NO_ERROR
        }
        SERVICE_CONTROL_INTERROGATE => NO_ERROR,
        _ => ERROR_CALL_NOT_IMPLEMENTED,
    }
}

fn report(handle: SERVICE_STATUS_HANDLE, state: u32, problem: u32) {
    let running = state == SERVICE_RUNNING;
    let status = SERVICE_STATUS {
        dwServiceType: SERVICE_WIN32_OWN_PROCESS,
        dwCurrentState: state,
        dwControlsAccepted: if running { SERVICE_ACCEPT_STOP | SERVICE_ACCEPT_SHUTDOWN } else { 0 },
        // ERROR_SERVICE_SPECIFIC_ERROR says that the next number is the service's own.
        dwWin32ExitCode: if problem == 0 { 0 } else { 1066 },
        dwServiceSpecificExitCode: problem,
        dwCheckPoint: 0,
        dwWaitHint: if matches!(state, SERVICE_START_PENDING | SERVICE_STOP_PENDING) { 10_000 } else { 0 },
    };
    // SAFETY: the handle is the one that was registered, and stays good until the process ends.
    unsafe { SetServiceStatus(handle, &status) };
}
