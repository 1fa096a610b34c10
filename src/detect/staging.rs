//! What was done to the files of an upload before it left, beyond their being read or written.
//!
//! | finding | holds when | weight |
//! | --- | --- | --- |
//! | `archive-encrypted` | a file of the upload is an archive whose content cannot be read | grave |
//! | `sensitive-path` | a linked file fits one of `sensitive_paths` | grave |
//! | `archive-created` | a linked archive was written by one of `archive_tools`, or by the command line of a shell that packs | staging |
//! | `staging-path` | a linked file was written in one of `staging_paths` | staging |
//! | `many-reads` | `many_reads` linked files or more were read, in `many_folders` folders or more; 32 links at most are known | staging |
//! | `type-mismatch` | a file's first bytes contradict its name or its declared type | context |

use crate::config::Detect;
use crate::endpoint::{Operation, base_name};
use crate::join::{FileKind, FileLink};
use crate::record::Upload;

use super::Reason;

/// How much a finding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// It is said, and changes nothing.
    Context,
    /// Data was made ready to leave.
    Staging,
    /// And it is worth more, or hidden.
    Grave,
}

/// What was done to the files, each with how much it says.
pub(super) fn findings(policy: &Detect, upload: &Upload, links: &[FileLink]) -> Vec<(Weight, Reason)> {
    let found = [
        encrypted(upload).map(|reason| (Weight::Grave, reason)),
        sensitive(policy, links).map(|reason| (Weight::Grave, reason)),
        packed(policy, links).map(|reason| (Weight::Staging, reason)),
        placed(policy, links).map(|reason| (Weight::Staging, reason)),
        gathered(policy, links).map(|reason| (Weight::Staging, reason)),
        mismatch(upload).map(|reason| (Weight::Context, reason)),
    ];
    found.into_iter().flatten().collect()
}

fn encrypted(upload: &Upload) -> Option<Reason> {
    let of_files = upload.files.iter().filter_map(|file| Some((file.archive.as_ref()?, file.name.clone())));
    let of_body = upload.body.archive.iter().map(|archive| (archive, None));
    let mut archives = of_files.chain(of_body);
    let (archive, file) = archives.find(|(archive, _)| archive.encrypted == Some(true))?;
    Some(Reason::ArchiveEncrypted { format: archive.format, file })
}

fn mismatch(upload: &Upload) -> Option<Reason> {
    let file = upload.files.iter().find(|file| file.type_mismatch)?;
    Some(Reason::TypeMismatch { file: file.name.clone(), detected: file.detected_type })
}

fn sensitive(policy: &Detect, links: &[FileLink]) -> Option<Reason> {
    let link = links.iter().find(|link| policy.sensitive_paths.iter().any(|pattern| pattern.matches(&link.path)))?;
    Some(Reason::SensitivePath { path: link.path.to_string() })
}

fn is_written(link: &FileLink) -> bool {
    matches!(link.op, Operation::Create | Operation::Write | Operation::Rename)
}

fn packed(policy: &Detect, links: &[FileLink]) -> Option<Reason> {
    links.iter().filter(|link| link.kind == FileKind::Archive && is_written(link)).find_map(|link| {
        let tool = link.staged_by.name()?;
        let listed = policy.archive_tools.iter().any(|known| known.eq_ignore_ascii_case(tool));
        let command_line = link.staged_by.command_line.as_deref().unwrap_or_default().to_lowercase();
        let by_shell = ["compress-archive", "system.io.compression"].iter().any(|word| command_line.contains(word));
        (listed || by_shell).then(|| Reason::ArchiveCreated { path: link.path.to_string(), tool: tool.to_owned() })
    })
}

fn placed(policy: &Detect, links: &[FileLink]) -> Option<Reason> {
    let is_placed = |link: &&FileLink| policy.staging_paths.iter().any(|pattern| pattern.matches(&link.path));
    let link = links.iter().filter(|link| is_written(link) && link.kind != FileKind::Script).find(is_placed)?;
    Some(Reason::StagingPath { path: link.path.to_string() })
}

fn gathered(policy: &Detect, links: &[FileLink]) -> Option<Reason> {
    let read: Vec<&FileLink> = links.iter().filter(|link| link.op == Operation::Read).collect();
    let folder = |link: &&FileLink| link.path.strip_suffix(base_name(&link.path)).unwrap_or_default().to_lowercase();
    let folders: std::collections::BTreeSet<String> = read.iter().map(folder).collect();
    let (files, folders) = (read.len() as u64, folders.len() as u64);
    (files >= policy.many_reads && folders >= policy.many_folders).then_some(Reason::ManyReads { files, folders })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PathPattern;
    use crate::join::tests::{process_of, upload};
    use crate::join::{Confidence, FileRule};
    use crate::net::Timestamp;
    use crate::record::Archive;

    fn link(path: &str, op: Operation, kind: FileKind, by: &str) -> FileLink {
        let (rule, confidence) = (FileRule::ProcessTree, Confidence::Low);
        FileLink {
            path: path.into(),
            size: None,
            op,
            ts: Timestamp(1),
            staged_by: process_of(by),
            rule,
            confidence,
            kind,
        }
    }

    fn ids(upload: &Upload, links: &[FileLink]) -> Vec<&'static str> {
        findings(&Detect::default(), upload, links).iter().map(|(_, reason)| reason.id()).collect()
    }

    #[test]
    fn an_archive_that_a_packer_wrote_counts_and_one_that_was_only_read_does_not() {
        let plain = upload(10, &["a.7z"]);
        let written = link("D:\\a.7z", Operation::Write, FileKind::Archive, "C:\\x\\7Z.EXE");
        assert_eq!(ids(&plain, &[written]), ["archive-created"]);
        let read = link("D:\\a.7z", Operation::Read, FileKind::Archive, "C:\\x\\7z.exe");
        let other = link("D:\\a.7z", Operation::Write, FileKind::Archive, "C:\\x\\setup.exe");
        assert!(ids(&plain, &[read, other]).is_empty());
        let mut shell = link("D:\\a.zip", Operation::Create, FileKind::Archive, "C:\\powershell.exe");
        shell.staged_by.command_line = Some("powershell Compress-Archive D:\\x D:\\a.zip".into());
        assert_eq!(ids(&plain, &[shell]), ["archive-created"]);
    }

    #[test]
    fn places_where_data_is_put_to_leave_count_for_what_was_written_there() {
        let path = "C:\\$Recycle.Bin\\old.dat";
        let plain = upload(10, &["a"]);
        assert_eq!(ids(&plain, &[link(path, Operation::Write, FileKind::UserData, "C:\\a.exe")]), ["staging-path"]);
        assert!(ids(&plain, &[link(path, Operation::Read, FileKind::UserData, "C:\\a.exe")]).is_empty());
        assert!(ids(&plain, &[link(path, Operation::Write, FileKind::Script, "C:\\a.exe")]).is_empty());
    }

    #[test]
    fn sensitive_files_count_however_they_were_touched_and_a_site_adds_its_own() {
        let plain = upload(10, &["a"]);
        let vault = link("C:\\Users\\x\\Vault.KDBX", Operation::Read, FileKind::UserData, "C:\\a.exe");
        assert_eq!(ids(&plain, std::slice::from_ref(&vault)), ["sensitive-path"]);
        let sensitive_paths = vec![PathPattern::new("*\\users\\x\\*").unwrap()];
        let policy = Detect { sensitive_paths, ..Detect::default() };
        assert_eq!(findings(&policy, &plain, &[vault]).len(), 1);
    }

    #[test]
    fn many_reads_in_several_folders_count() {
        let plain = upload(10, &["a"]);
        let reads = |files: usize, folders: usize| {
            let path = |n: usize| format!("D:\\f{}\\{n}.docx", n % folders);
            let links: Vec<FileLink> =
                (0..files).map(|n| link(&path(n), Operation::Read, FileKind::UserData, "C:\\a.exe")).collect();
            ids(&plain, &links)
        };
        assert_eq!(reads(20, 3), ["many-reads"]);
        assert!(reads(19, 3).is_empty() && reads(20, 2).is_empty());
    }

    #[test]
    fn what_the_bytes_themselves_show_counts() {
        let mut sent = upload(10, &["a.jpg"]);
        sent.files[0].archive = Some(Archive { format: "7z", encrypted: Some(true) });
        sent.files[0].type_mismatch = true;
        sent.files[0].detected_type = Some("application/x-7z-compressed");
        assert_eq!(ids(&sent, &[]), ["archive-encrypted", "type-mismatch"]);
        sent.files[0].archive = Some(Archive { format: "7z", encrypted: None });
        sent.files[0].type_mismatch = false;
        assert!(ids(&sent, &[]).is_empty());
    }
}
