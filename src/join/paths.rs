//! What a Windows path tells of the file behind it.

use crate::endpoint::{Operation, base_name};

/// What a file is, as far as its path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// An archive, by its extension.
    Archive,
    /// In a user's own folders, on a share, or in a place where data is staged: a recycle bin, a folder for
    /// temporary files.
    UserData,
    /// None of the others.
    Other,
    /// The script that the uploading program was started with.
    Script,
}

impl FileKind {
    pub(super) fn of(path: &str) -> Self {
        let path = path.to_lowercase();
        if has_extension(&path, ARCHIVES) {
            Self::Archive
        } else if is_user_data(&path) {
            Self::UserData
        } else {
            Self::Other
        }
    }
}

const ARCHIVES: &[&str] = &[
    "7z", "zip", "zipx", "rar", "tar", "gz", "tgz", "bz2", "tbz2", "xz", "txz", "zst", "cab", "arj", "lzh", "ace",
    "iso", "img", "wim", "vhd", "vhdx", "001",
];

const SCRIPTS: &[&str] =
    &["js", "jse", "vbs", "vbe", "wsf", "wsh", "hta", "ps1", "psm1", "bat", "cmd", "py", "pl", "rb", "sct"];

const NOISE: &[&str] = &[
    "dll", "exe", "mui", "nls", "ttf", "ttc", "fon", "otf", "pf", "sys", "drv", "ocx", "cpl", "mun", "manifest", "cat",
    "tlb", "etl", "sdb",
];

/// Whether touching this file says nothing about data: programs, fonts, prefetch, what Windows reads from its own folders.
pub(super) fn is_noise(path: &str, op: Operation) -> bool {
    let path = path.to_lowercase();
    let own = path.contains("\\windows\\") && !path.contains("\\windows\\temp\\");
    has_extension(&path, NOISE) || path.contains("\\prefetch\\") || (own && op == Operation::Read)
}

/// Whether the path is where the upload itself goes, or the copy that Windows' WebDAV client makes of it on its way:
/// such a file is the upload, and not its origin.
pub(super) fn is_upload_target(path: &str, domain: Option<&str>, server: &str) -> bool {
    let path = path.to_lowercase();
    if path.contains("\\davwwwroot\\") || path.contains("\\tfsstore\\") {
        return true;
    }
    let Some(share) = share_of(&path) else { return false };
    let host = share.split(['\\', '@']).next().unwrap_or(share);
    host == server || domain.is_some_and(|domain| domain.eq_ignore_ascii_case(host))
}

/// Whether the path is the script that a program with this command line runs: the commands of `ftp -s:FILE`, or a file
/// of a script's extension that the command line names.
pub(super) fn is_script(path: &str, command_line: &str) -> bool {
    let (name, command_line) = (base_name(path).to_lowercase(), command_line.to_lowercase());
    let named_after = |option: &str| {
        command_line.split(option).skip(1).any(|argument| {
            let quoted = argument.strip_prefix('"').and_then(|argument| argument.split('"').next());
            // Without a quote of its own, the argument ends at the next space, or at the quote around the option.
            let ends = [quoted, argument.split_whitespace().next(), argument.split('"').next()];
            ends.into_iter().flatten().any(|file| base_name(file) == name)
        })
    };
    !name.is_empty() && (named_after("-s:") || (has_extension(&name, SCRIPTS) && command_line.contains(&name)))
}

fn has_extension(lower: &str, extensions: &[&str]) -> bool {
    let name = base_name(lower);
    name.rsplit_once('.').is_some_and(|(_, extension)| extensions.contains(&extension))
}

fn is_user_data(lower: &str) -> bool {
    const PLACES: &[&str] = &[
        "\\documents\\",
        "\\my documents\\",
        "\\desktop\\",
        "\\$recycle.bin\\",
        "\\recycler\\",
        "\\recycled\\",
        "\\temp\\",
        "\\tmp\\",
        "\\perflogs\\",
    ];
    let profile = lower.contains("\\users\\") && !lower.contains("\\appdata\\");
    profile || PLACES.iter().any(|place| lower.contains(place)) || share_of(lower).is_some()
}

/// What follows the two backslashes of a share's path; devices and verbatim paths are none.
fn share_of(lower: &str) -> Option<&str> {
    if let Some(share) = lower.strip_prefix("\\device\\mup\\").or_else(|| lower.strip_prefix("\\\\?\\unc\\")) {
        return Some(share);
    }
    lower.strip_prefix("\\\\").filter(|rest| !rest.starts_with(['?', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_path() {
        let of = FileKind::of;
        assert_eq!(of("C:\\$Recycle.Bin\\old.7Z"), FileKind::Archive);
        assert_eq!(of("C:\\Users\\a\\Budget.xlsx"), FileKind::UserData);
        assert_eq!(of("C:\\Users\\a\\AppData\\Local\\Google\\Chrome\\Cache\\f_01"), FileKind::Other);
        assert_eq!(of("C:\\Users\\a\\AppData\\Local\\Temp\\out.txt"), FileKind::UserData);
        assert_eq!(of("\\\\files\\finance\\q3.xlsx"), FileKind::UserData);
        assert_eq!(of("\\Device\\Mup\\files\\finance\\q3.xlsx"), FileKind::UserData);
        assert_eq!(of("\\\\?\\C:\\ProgramData\\x"), FileKind::Other);
        assert_eq!(of("\\\\.\\pipe\\x"), FileKind::Other);
    }

    #[test]
    fn noise_is_programs_and_what_windows_reads_of_itself() {
        assert!(is_noise("C:\\Program Files\\7-Zip\\7z.DLL", Operation::Read));
        assert!(is_noise("C:\\Windows\\System32\\drivers\\etc\\hosts", Operation::Read));
        assert!(is_noise("C:\\Windows\\Prefetch\\FTP.EXE-1.db", Operation::Write));
        assert!(!is_noise("C:\\Windows\\Temp\\dump.txt", Operation::Read));
        assert!(!is_noise("C:\\Windows\\System32\\out.txt", Operation::Write));
    }

    #[test]
    fn where_the_upload_goes_is_not_where_it_comes_from() {
        assert!(is_upload_target("\\\\192.0.2.9@8080\\DavWWWRoot\\x\\old.7z", None, "192.0.2.9"));
        assert!(is_upload_target("\\\\dav.example\\x\\old.7z", Some("DAV.example"), "192.0.2.9"));
        assert!(is_upload_target(
            "C:\\Windows\\ServiceProfiles\\LocalService\\AppData\\Local\\Temp\\TfsStore\\a",
            None,
            ""
        ));
        assert!(!is_upload_target("\\\\files\\finance\\old.7z", Some("dav.example"), "192.0.2.9"));
        assert!(!is_upload_target("C:\\192.0.2.9\\old.7z", None, "192.0.2.9"));
    }

    #[test]
    fn the_script_is_told_by_the_command_line() {
        assert!(is_script("C:\\Temp\\S.txt", "ftp.exe -s:c:\\temp\\s.txt host"));
        assert!(is_script("C:\\My files\\s.txt", "ftp -n -S:\"C:\\My files\\s.txt\" host"));
        assert!(is_script("C:\\My files\\s.txt", "ftp \"-s:C:\\My files\\s.txt\" host"));
        assert!(is_script("C:\\x\\Invoice.js", "wscript.exe \"C:\\x\\invoice.JS\""));
        assert!(!is_script("C:\\x\\data.txt", "ftp -s:s.txt data.txt"));
        assert!(!is_script("C:\\x\\data.zip", "curl -T C:\\x\\data.zip"));
        assert!(!is_script("C:\\x\\", "ftp -s: host"));
    }
}
