//! Compares records with what `expected.json` says of them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The value at a dotted path of a nested object.
pub fn at<'a>(record: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(record, |value, key| value.get(key))
}

/// Requires as many records as expectations and a record of its own for each.
///
/// # Errors
/// With what was wanted, and the record that came nearest to it.
pub fn compare(wanted: &[Value], records: &[Value]) -> Result<(), String> {
    let differences: Vec<Vec<Vec<String>>> =
        wanted.iter().map(|want| records.iter().map(|record| differences(want, record)).collect()).collect();
    let fits = |want: usize, record: usize| differences[want][record].is_empty();
    let mut complaints = Vec::new();
    if wanted.len() != records.len() {
        complaints.push(format!("{} records expected, {} found", wanted.len(), records.len()));
    }
    let owners = assign(wanted.len(), records.len(), fits);
    for (n, want) in wanted.iter().enumerate() {
        if owners.contains(&Some(n)) {
            continue;
        }
        let free = (0..records.len()).filter(|record| owners[*record].is_none());
        let nearest = free.min_by_key(|record| differences[n][*record].len());
        complaints.push(match nearest {
            None => format!("expected, but no record is left for it: {want}"),
            Some(record) if fits(n, record) => unreachable!("the assignment is not maximal"),
            Some(record) => format!(
                "expected: {want}\n  the nearest record differs in\n    {}\n  and is {}",
                differences[n][record].join("\n    "),
                records[record]
            ),
        });
    }
    for (record, owner) in owners.iter().enumerate() {
        if owner.is_none() && records.len() > wanted.len() {
            complaints.push(format!("not expected: {}", records[record]));
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

/// For each record the expectation that it is given to, so that as many as possible have one of their own.
fn assign(wanted: usize, records: usize, fits: impl Fn(usize, usize) -> bool) -> Vec<Option<usize>> {
    fn place(
        want: usize,
        owners: &mut [Option<usize>],
        tried: &mut [bool],
        fits: &impl Fn(usize, usize) -> bool,
    ) -> bool {
        for record in 0..owners.len() {
            if tried[record] || !fits(want, record) {
                continue;
            }
            tried[record] = true;
            if owners[record].is_none_or(|owner| place(owner, owners, tried, fits)) {
                owners[record] = Some(want);
                return true;
            }
        }
        false
    }
    let mut owners = vec![None; records];
    for want in 0..wanted {
        place(want, &mut owners, &mut vec![false; records], &fits);
    }
    owners
}

/// A line for each field in which the record is not as wanted.
fn differences(want: &Value, record: &Value) -> Vec<String> {
    let empty = Map::new();
    let mut lines = Vec::new();
    for (field, value) in want.as_object().unwrap_or(&empty) {
        match field.as_str() {
            "reasons" => {
                let wanted: BTreeSet<&str> = strings(value).collect();
                let reasons = at(record, "outfall.reasons").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                let found: BTreeSet<&str> =
                    reasons.iter().filter_map(|reason| at(reason, "id").and_then(Value::as_str)).collect();
                if wanted != found {
                    lines.push(format!("outfall.reasons[].id: expected {wanted:?}, found {found:?}"));
                }
            }
            "files" => {
                let found = at(record, "outfall.join.files").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                for file in value.as_array().into_iter().flatten() {
                    if !found.iter().any(|found| same_file(file, found)) {
                        lines.push(format!("outfall.join.files[]: expected {file}, found {}", Value::from(found)));
                    }
                }
            }
            "severity" => lines.extend(difference("event.severity", value, record)),
            path => lines.extend(difference(path, value, record)),
        }
    }
    lines
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Whether a linked file has the name, and the process if one is wanted.
fn same_file(want: &Value, found: &Value) -> bool {
    let process = want.get("process").filter(|process| !process.is_null());
    want.get("name") == found.get("name") && (process.is_none() || process == at(found, "process.name"))
}

fn difference(path: &str, want: &Value, record: &Value) -> Option<String> {
    let found = at(record, path);
    let shown = || found.map_or("nothing".to_owned(), Value::to_string);
    (found != Some(want)).then(|| format!("{path}: expected {want}, found {}", shown()))
}
