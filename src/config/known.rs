//! Programs and paths that the defaults of `[detect]` name.

pub(super) const ARCHIVE_TOOLS: [&str; 14] = [
    "7z.exe",
    "7za.exe",
    "7zg.exe",
    "7zfm.exe",
    "rar.exe",
    "winrar.exe",
    "winzip32.exe",
    "winzip64.exe",
    "wzzip.exe",
    "zip.exe",
    "tar.exe",
    "makecab.exe",
    "pkzip.exe",
    "gzip.exe",
];

/// Folders that users and programs seldom write to, and that everybody may.
pub(super) const STAGING_PATHS: [&str; 8] = [
    r"*\$recycle.bin\*",
    r"*\recycler\*",
    r"*\users\public\*",
    r"*\perflogs\*",
    r"*\windows\temp\*",
    r"*\windows\debug\*",
    r"*\windows\tasks\*",
    r"*\windows\system32\spool\drivers\color\*",
];

pub(super) const SENSITIVE_PATHS: [&str; 9] = [
    r"*.kdbx",
    r"*.kdb",
    r"*\ntds.dit",
    r"*\windows\system32\config\sam",
    r"*\windows\system32\config\security",
    r"*\.ssh\*",
    r"*\.aws\credentials",
    r"*\wallet.dat",
    r"*\login data",
];

/// Programs of Windows, and common tools, that upload where they are told to: as LOLBAS and incident reports name them.
pub(super) const DUAL_USE_PROGRAMS: [&str; 22] = [
    "ftp.exe",
    "tftp.exe",
    "certutil.exe",
    "certreq.exe",
    "bitsadmin.exe",
    "curl.exe",
    "wget.exe",
    "powershell.exe",
    "pwsh.exe",
    "rundll32.exe",
    "regsvr32.exe",
    "mshta.exe",
    "wscript.exe",
    "cscript.exe",
    "msbuild.exe",
    "installutil.exe",
    "rclone.exe",
    "winscp.exe",
    "psftp.exe",
    "pscp.exe",
    "python.exe",
    "configsecuritypolicy.exe",
];

pub(super) const DOCUMENT_PROGRAMS: [&str; 9] = [
    "winword.exe",
    "excel.exe",
    "powerpnt.exe",
    "outlook.exe",
    "onenote.exe",
    "mspub.exe",
    "msaccess.exe",
    "visio.exe",
    "acrord32.exe",
];
