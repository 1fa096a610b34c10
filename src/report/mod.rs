//! The report: one HTML file that needs nothing else, from what the database holds.
//!
//! The pictures are SVG by `kuva` (MIT; three small crates beyond what is here): it draws stacked bars and Sankey
//! diagrams as plain SVG, escapes what it is given, and takes any CSS colour, so that one picture serves light, dark and
//! paper. `plotters` has no Sankey diagram and colours that are fixed, `poloto` neither stacked bars nor a Sankey diagram, and
//! `charming` needs JavaScript. The page is by `maud`, which escapes every value where it is put in.
//!
//! There is no script, and the policy in the page's head forbids all but the style that it carries. The same input gives the
//! same bytes: no clock is asked.

mod alert;
mod chart;
mod page;

use crate::detect::{Exception, Finding};
use crate::net::Timestamp;
use crate::store::Digest;

/// An exception, and what an owner has to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// The exception.
    pub exception: Exception,
    /// What there is to say.
    pub findings: Vec<Finding>,
}

/// All that a report shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportData {
    /// What it is of: the files' names.
    pub sources: Vec<String>,
    /// What the database holds.
    pub digest: Digest,
    /// The time for which the exceptions were reviewed.
    pub reviewed: Timestamp,
    /// How many exceptions there are.
    pub exceptions: u64,
    /// Those that are due for review.
    pub due: Vec<Due>,
    /// What a replay lost, and where; none if the database alone was read, which does not hold that.
    pub losses: Option<Vec<(String, u64)>>,
    /// How many runs of a live sensor counted these; 0 of a replay.
    pub runs: u64,
}

/// The whole file.
pub fn html(data: &ReportData) -> String {
    page::html(data)
}

/// A time without its fraction, in UTC.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds: String = text.chars().take(19).collect();
    seconds.replace('T', " ")
}

/// `1 upload`, `2 uploads`.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", crate::net::group_digits(count))
}

#[cfg(test)]
mod tests;
