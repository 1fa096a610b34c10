//! The kinds of value that a key can have: how each is read, bounded and written.

use super::policy::{Destination, ExpectedProcess, PathPattern};
use super::problem::Refusals;
use crate::net::{ByteSize, Span};
use ipnet::IpNet;
use std::fmt;
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::DeValue;

/// A value with its place in the file.
pub type Node<'i> = Spanned<DeValue<'i>>;

/// A type that a key can have.
pub trait Setting: Sized {
    /// What a value of the type must keep to.
    type Rule;
    /// Reads the value; adds to `refused` and returns nothing where it breaks the type or the rule.
    fn read(node: &Node<'_>, rule: &Self::Rule, key: &str, refused: &mut Refusals<'_>) -> Option<Self>;
    /// The rule as a sentence of the default file.
    fn rule_text(rule: &Self::Rule) -> String;
    /// The value as TOML.
    fn shown(&self) -> Shown;
}

/// A value as TOML.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// Anything on one line.
    One(String),
    /// An array, item by item.
    List(Vec<String>),
}

impl Shown {
    /// The value over several lines, should one line be hard to read.
    pub fn wrapped(&self) -> String {
        const WIDTH: usize = 80;
        let text = self.to_string();
        match self {
            Self::List(items) if text.len() > WIDTH => format!("[\n    {},\n]", items.join(",\n    ")),
            _ => text,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(text) => f.write_str(text),
            Self::List(items) => write!(f, "[{}]", items.join(", ")),
        }
    }
}

/// A value that lies between two bounds.
trait Bounded: Copy + PartialOrd {
    /// What a value looks like, for the error.
    const EXPECTED: &'static str;
    /// What a value is, for the default file.
    const NOUN: &'static str;
    fn from_node(value: &DeValue<'_>) -> Option<Self>;
    fn exact(self) -> String;
    fn toml(self) -> String {
        format!("\"{}\"", self.exact())
    }
}

impl<T: Bounded> Setting for T {
    type Rule = RangeInclusive<T>;

    fn read(node: &Node<'_>, rule: &Self::Rule, key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        let Some(value) = T::from_node(node.get_ref()) else {
            refused.expected(node, key, T::EXPECTED);
            return None;
        };
        if value < *rule.start() {
            refused.expected(node, key, &format!("at least {}", rule.start().exact()));
        } else if value > *rule.end() {
            refused.expected(node, key, &format!("at most {}", rule.end().exact()));
        }
        rule.contains(&value).then_some(value)
    }

    fn rule_text(rule: &Self::Rule) -> String {
        format!("{} from {} to {}.", T::NOUN, rule.start().exact(), rule.end().exact())
    }

    fn shown(&self) -> Shown {
        Shown::One(self.toml())
    }
}

impl Bounded for u64 {
    const EXPECTED: &'static str = "a whole number";
    const NOUN: &'static str = "A whole number";

    fn from_node(value: &DeValue<'_>) -> Option<Self> {
        value.as_integer().and_then(|number| Self::from_str_radix(number.as_str(), number.radix()).ok())
    }

    fn exact(self) -> String {
        self.to_string()
    }

    fn toml(self) -> String {
        self.to_string()
    }
}

impl Bounded for ByteSize {
    const EXPECTED: &'static str = "a size such as \"64 KiB\", \"1 MB\" or a number of bytes";
    const NOUN: &'static str = "A size";

    fn from_node(value: &DeValue<'_>) -> Option<Self> {
        match value.as_str() {
            Some(text) => text.parse().ok(),
            None => u64::from_node(value).map(ByteSize),
        }
    }

    /// In the unit that needs the smallest number; unlike the type's own text it is never rounded.
    fn exact(self) -> String {
        const UNITS: [(&str, u64); 8] = [
            ("kB", 1_000),
            ("KiB", 1 << 10),
            ("MB", 1_000_000),
            ("MiB", 1 << 20),
            ("GB", 1_000_000_000),
            ("GiB", 1 << 30),
            ("TB", 1_000_000_000_000),
            ("TiB", 1 << 40),
        ];
        let whole = UNITS.iter().filter(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match whole.max_by_key(|(_, factor)| *factor) {
            Some((unit, factor)) => format!("{} {unit}", self.0 / factor),
            None => format!("{} B", self.0),
        }
    }
}

impl Bounded for Span {
    const EXPECTED: &'static str = "a length of time such as \"30 s\", \"5 min\", \"1 h\" or \"7 d\"";
    const NOUN: &'static str = "A length of time";

    fn from_node(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().and_then(|text| text.parse().ok())
    }

    fn exact(self) -> String {
        self.to_string()
    }
}

/// What a list holds.
pub struct List<T> {
    /// One item, for errors and for the default file.
    pub item: &'static str,
    /// Whether a list of nothing makes sense.
    pub may_be_empty: bool,
    /// Reads one item.
    pub read: ReadItem<T>,
}

/// Reads one item of a list, given how errors call it: the key, and what is expected.
pub type ReadItem<T> = fn(&Node<'_>, &'static str, &str, &mut Refusals<'_>) -> Option<T>;

/// What a text must be like.
pub struct Text {
    /// For errors and for the default file.
    pub what: &'static str,
    /// Whether a text is like that.
    pub fits: fn(&str) -> bool,
}

impl Setting for String {
    type Rule = Text;

    fn read(node: &Node<'_>, rule: &Text, key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        read_text(node, rule.what, key, refused, |text| (rule.fits)(text).then(|| text.to_owned()))
    }

    fn rule_text(rule: &Text) -> String {
        format!("A text: {}.", rule.what)
    }

    fn shown(&self) -> Shown {
        Shown::One(quote(self))
    }
}

impl Setting for bool {
    type Rule = ();

    fn read(node: &Node<'_>, _rule: &(), key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        let value = node.get_ref().as_bool();
        if value.is_none() {
            refused.expected(node, key, "true or false");
        }
        value
    }

    fn rule_text(_rule: &()) -> String {
        "true or false.".to_owned()
    }

    fn shown(&self) -> Shown {
        Shown::One(self.to_string())
    }
}

impl<T: Item> Setting for Vec<T> {
    type Rule = List<T>;

    fn read(node: &Node<'_>, rule: &List<T>, key: &str, refused: &mut Refusals<'_>) -> Option<Self> {
        match node.get_ref().as_array() {
            Some(items) if !items.is_empty() || rule.may_be_empty => {
                // Every item is read, so that every fault is reported, before one fault refuses the list.
                let read: Vec<_> = items.iter().map(|item| (rule.read)(item, rule.item, key, refused)).collect();
                read.into_iter().collect()
            }
            Some(_) => {
                refused.expected(node, key, "at least one item");
                None
            }
            None => {
                refused.expected(node, key, &format!("a list, each item {}", rule.item));
                None
            }
        }
    }

    fn rule_text(rule: &List<T>) -> String {
        let empty = if rule.may_be_empty { "may be empty" } else { "at least one" };
        format!("A list ({empty}), each item {}.", rule.item)
    }

    fn shown(&self) -> Shown {
        Shown::List(self.iter().map(Item::toml).collect())
    }
}

/// Something that a list can hold.
pub trait Item: Sized {
    /// The item as TOML.
    fn toml(&self) -> String;
}

impl Item for String {
    fn toml(&self) -> String {
        quote(self)
    }
}

impl Item for IpNet {
    fn toml(&self) -> String {
        quote(&self.to_string())
    }
}

impl Item for Destination {
    fn toml(&self) -> String {
        quote(&self.to_string())
    }
}

impl Item for PathPattern {
    fn toml(&self) -> String {
        quote(&self.text)
    }
}

impl Item for ExpectedProcess {
    fn toml(&self) -> String {
        let list = |name: &str, items: Shown| match &items {
            Shown::List(list) if list.is_empty() => String::new(),
            _ => format!(", {name} = {items}"),
        };
        let (protocols, destinations) = (self.protocols.shown(), self.destinations.shown());
        let (protocols, destinations) = (list("protocols", protocols), list("destinations", destinations));
        format!("{{ image = {}{protocols}{destinations} }}", quote(&self.image))
    }
}

/// Reads an item that is written as a text.
pub fn read_text<T>(
    node: &Node<'_>,
    expected: &str,
    key: &str,
    refused: &mut Refusals<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value = node.get_ref().as_str().and_then(parse);
    if value.is_none() {
        refused.expected(node, key, expected);
    }
    value
}

/// A TOML string; a literal one where that spares the reader doubled backslashes.
pub fn quote(text: &str) -> String {
    let plain = |c: char| !c.is_control() && c != '\'';
    if text.contains(['\\', '"']) && text.chars().all(plain) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
