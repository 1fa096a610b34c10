//! From one definition of a key to its field, its default, its reader and its page in the default file.

use super::Config;
use super::problem::Refusals;
use super::value::{Node, Shown};
use std::fmt::{self, Write as _};

/// Defines [`Config`] and its sections. Each key is `/// documentation`, `name: Type = default, rule;`.
macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])* $key:ident: $Type:ty = $default:expr, $rule:expr; )*
        }
    )*) => {
        /// The whole configuration, one field per section of the file.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Config {
            $( $(#[doc = $section_doc])* pub $section: $Section, )*
        }

        impl Config {
            pub(super) fn sections(&self) -> Vec<Named<'_>> {
                vec![$( Named {
                    name: stringify!($section),
                    doc: &[$($section_doc),*],
                    entries: self.$section.entries(),
                }, )*]
            }

            pub(super) fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
                match name {
                    $( stringify!($section) => Some(&mut self.$section), )*
                    _ => None,
                }
            }
        }

        $(
            $(#[doc = $section_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $doc])* pub $key: $Type, )*
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )* }
                }
            }

            impl Section for $Section {
                fn set(&mut self, key: &str, node: &Node<'_>, path: &str, refused: &mut Refusals<'_>) -> bool {
                    match key {
                        $( stringify!($key) => {
                            if let Some(value) = <$Type as Setting>::read(node, &$rule, path, refused) {
                                self.$key = value;
                            }
                        } )*
                        _ => return false,
                    }
                    true
                }

                fn entries(&self) -> Vec<Entry> {
                    vec![$( Entry {
                        key: stringify!($key),
                        doc: &[$($doc),*],
                        rule: <$Type as Setting>::rule_text(&$rule),
                        value: self.$key.shown(),
                    }, )*]
                }
            }
        )*
    };
}
pub(super) use settings;

/// A section of the file, as the generic reader and writer see it.
pub trait Section {
    /// Takes the value of `key`, or adds why not to `refused`; false where there is no such key.
    fn set(&mut self, key: &str, node: &Node<'_>, path: &str, refused: &mut Refusals<'_>) -> bool;
    /// Every key with its present value, in the order of the file.
    fn entries(&self) -> Vec<Entry>;
}

/// A section with its name and documentation.
pub struct Named<'a> {
    pub name: &'static str,
    pub doc: &'a [&'static str],
    pub entries: Vec<Entry>,
}

/// A key with its documentation and its present value.
pub struct Entry {
    pub key: &'static str,
    pub doc: &'static [&'static str],
    pub rule: String,
    pub value: Shown,
}

/// A key whose value is not the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Section and key: `flow.idle_timeout`.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// The default, as TOML.
    pub default: String,
}

/// `flow.idle_timeout = "5 min" (default "15 min")`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (default {})", self.key, self.value, self.default)
    }
}

impl Config {
    /// The commented default file: every section and key with its documentation, bounds and default.
    pub fn default_text() -> String {
        let mut text = String::from(HEADER);
        for section in Self::default().sections() {
            text.push('\n');
            comment(&mut text, section.doc);
            let _ = writeln!(text, "[{}]", section.name);
            for entry in section.entries {
                text.push('\n');
                comment(&mut text, entry.doc);
                let _ = writeln!(text, "# {}", entry.rule);
                let _ = writeln!(text, "{} = {}", entry.key, entry.value.wrapped());
            }
        }
        text
    }

    /// What differs from the default, in the order of the default file.
    pub fn changes(&self) -> Vec<Change> {
        let default = Self::default();
        let pairs = self.sections().into_iter().zip(default.sections());
        pairs
            .flat_map(|(section, default)| {
                section.entries.into_iter().zip(default.entries).map(move |pair| (section.name, pair))
            })
            .filter(|(_, (entry, default))| entry.value != default.value)
            .map(|(section, (entry, default))| Change {
                key: format!("{section}.{}", entry.key),
                value: entry.value.to_string(),
                default: default.value.to_string(),
            })
            .collect()
    }
}

const HEADER: &str = "\
# Configuration of Outfall. Every key stands here with its default; a key that is left out keeps it.
#
# Sizes are texts such as \"64 KiB\" (65,536 bytes) or \"1 MB\" (1,000,000 bytes), or plain numbers of bytes.
# Times are texts such as \"250 ms\", \"30 s\", \"5 min\", \"1 h\" or \"7 d\", and are measured in packet time.
";

fn comment(text: &mut String, doc: &[&str]) {
    // A fence tells rustdoc that an example is no Rust; a reader of the file needs no such hint.
    for line in doc.iter().filter(|line| !line.starts_with(" ```")) {
        let _ = writeln!(text, "{}", format!("#{line}").trim_end());
    }
}
