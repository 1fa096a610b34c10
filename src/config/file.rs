//! A file that alerts go to, as the configuration names it.

use super::problem::{Refusals, key_text};
use super::suggest;
use super::syslog::{FORMATS, Format, SEVERITIES, choice, named};
use super::value::{Item, Node, Setting, Text, quote};
use crate::net::{ByteSize, Span};

/// A file, with its older parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFile {
    /// Where it is; absolute.
    pub path: String,
    /// What a line says.
    pub format: Format,
    /// Alerts with a smaller `event.severity` are not written to it.
    pub minimum_severity: u64,
    /// A file that would be longer is put aside, and a new one begun.
    pub max_bytes: ByteSize,
    /// So is one that is older.
    pub max_age: Span,
    /// How many are kept of those put aside.
    pub keep: u64,
    /// Whether those are compressed.
    pub gzip: bool,
}

const KEYS: [&str; 7] = ["path", "format", "minimum_severity", "max_bytes", "max_age", "keep", "gzip"];

const PATH: Text = Text {
    what: "the absolute path of a file such as \"/var/log/outfall/alerts.json\"",
    fits: |text| text.starts_with('/') && !text.ends_with('/') && text.rfind('/') != Some(0) && !text.contains('\0'),
};

const MIB: u64 = 1 << 20;
const DAY: u64 = 86_400;

impl AlertFile {
    /// What tells it from others in the store and in the log: `file:/var/log/outfall/alerts.json`.
    pub fn name(&self) -> String {
        format!("file:{}", self.path)
    }

    pub(super) fn read(node: &Node<'_>, expected: &'static str, key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        let Some(table) = node.get_ref().as_table() else {
            refused.expected(node, key, expected);
            return None;
        };
        for name in table.keys().filter(|name| !KEYS.contains(&name.get_ref().as_ref())) {
            let path = format!("{key}.{}", key_text(name.get_ref()));
            refused.add(name.span().start, Some(path), suggest::unknown_name(name.get_ref(), &KEYS));
        }
        fn or<T: Setting>(
            node: Option<&Node<'_>>,
            default: T,
            rule: &T::Rule,
            key: &str,
            refused: &mut Refusals<'_>,
        ) -> Option<T> {
            match node {
                Some(node) => T::read(node, rule, key, refused),
                None => Some(default),
            }
        }
        let path = |name: &str| format!("{key}.{name}");
        let format = choice(table.get("format"), &FORMATS, Format::Ecs, &path("format"), refused);
        let severity = table.get("minimum_severity");
        let minimum_severity = choice(severity, &SEVERITIES, 0, &path("minimum_severity"), refused);
        let sizes = ByteSize(64 << 10)..=ByteSize(MIB << 20);
        let max_bytes = or(table.get("max_bytes"), ByteSize(100 * MIB), &sizes, &path("max_bytes"), refused);
        let ages = Span::seconds(60)..=Span::seconds(3_650 * DAY);
        let max_age = or(table.get("max_age"), Span::seconds(DAY), &ages, &path("max_age"), refused);
        let keep = or(table.get("keep"), 10, &(1..=1_000), &path("keep"), refused);
        let gzip = or(table.get("gzip"), false, &(), &path("gzip"), refused);
        let Some(file) = table.get("path") else {
            refused.add(node.span().start, Some(path("path")), format!("expected {}, found none", PATH.what));
            return None;
        };
        Some(Self {
            path: String::read(file, &PATH, &path("path"), refused)?,
            format: format?,
            minimum_severity: minimum_severity?,
            max_bytes: max_bytes?,
            max_age: max_age?,
            keep: keep?,
            gzip: gzip?,
        })
    }
}

impl Item for AlertFile {
    fn toml(&self) -> String {
        let mut text = format!(
            "{{ path = {}, format = \"{}\", max_bytes = {}, max_age = {}, keep = {}, gzip = {}",
            quote(&self.path),
            named(&FORMATS, &self.format),
            self.max_bytes.shown(),
            self.max_age.shown(),
            self.keep,
            self.gzip
        );
        if self.minimum_severity > 0 {
            text.push_str(&format!(", minimum_severity = \"{}\"", named(&SEVERITIES, &self.minimum_severity)));
        }
        text + " }"
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_file_is_written_as_it_is_read_and_one_that_makes_no_sense_is_refused() {
        let read = |text: &str| Config::parse(text, "f").map_err(|error| error.to_string());
        let text = "[[deliver.file]]\npath = \"/a/b.json\"\nformat = \"ocsf\"\nmax_bytes = \"1 MiB\"\nmax_age = \"1 h\"\n\
                    keep = 3\ngzip = true\nminimum_severity = \"high\"\n[[deliver.file]]\npath = \"/a/c.json\"\n";
        let config = read(text).unwrap();
        assert_eq!(config.deliver.file[1].name(), "file:/a/c.json");
        assert_eq!(read(&format!("[deliver]\nfile = {}\n", config.changes()[0].value)).unwrap(), config);
        for (text, said) in [
            ("gzip = true", "path"),
            ("path = \"alerts.json\"", "absolute"),
            ("path = \"/alerts.json\"", "absolute"),
            ("path = \"/a/b\"\nkeep = 0", "at least 1"),
            ("path = \"/a/b\"\nrotate = 1", "rotate"),
        ] {
            let error = read(&format!("[[deliver.file]]\n{text}\n")).unwrap_err();
            assert!(error.contains(said) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
