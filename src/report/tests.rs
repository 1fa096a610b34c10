use super::*;
use crate::store::{AlertRow, Amount, Flow, Named, ProtocolSlot, Ranking, Timeline};

const HOSTILE: &str = "\"'><script>alert(1)</script><svg onload=x>$\\alpha$</style>\u{202e}\u{0}\n";

fn hostile() -> ReportData {
    let amount = Amount { uploads: 1, bytes: 10 };
    let ranking = || Ranking { rows: vec![Named { name: Some(HOSTILE.to_owned()), amount, hosts: 1 }], known: 1 };
    let document = serde_json::json!({
        "message": format!("HIGH {HOSTILE}: x"),
        "process": { "executable": HOSTILE, "command_line": HOSTILE },
        "outfall": {
            "reasons": [{ "id": HOSTILE, "text": HOSTILE }],
            "files": [{ "name": HOSTILE, "hash": { "sha256": HOSTILE } }],
            "join": { "files": [{ "path": HOSTILE }] },
            "alert": { "playbook": [HOSTILE] },
        },
    });
    let alert = AlertRow {
        event_id: HOSTILE.to_owned(),
        time: HOSTILE.to_owned(),
        severity: 73,
        suppressed_by: Some(HOSTILE.to_owned()),
        document: document.to_string(),
    };
    let digest = Digest {
        span: Some((Timestamp(5), Timestamp(6))),
        outbound: amount,
        protocols: vec![(HOSTILE.to_owned(), amount)],
        timeline: Timeline {
            width: crate::net::Span::seconds(1),
            slots: 1,
            amounts: vec![ProtocolSlot { slot: 0, protocol: HOSTILE.to_owned(), amount }],
            alerts: vec![(0, 1)],
            ..Timeline::default()
        },
        processes: ranking(),
        destinations: ranking(),
        hosts: ranking(),
        flows: vec![Flow { process: Some(HOSTILE.to_owned()), destination: HOSTILE.to_owned(), amount }],
        alerts: vec![alert.clone()],
        health: vec![alert],
        ..Digest::default()
    };
    ReportData {
        sources: vec![HOSTILE.to_owned()],
        digest,
        losses: Some(vec![(HOSTILE.to_owned(), 1)]),
        runs: 2,
        ..ReportData::default()
    }
}

#[test]
fn hostile_names_stay_text() {
    let page = html(&hostile());
    assert_eq!(page.matches("<script").count(), 0);
    assert_eq!(page.matches("</style>").count(), 1);
    assert_eq!(page.matches("<svg onload").count(), 0);
    assert!(!page.contains(['\u{0}', '\u{202e}']), "control characters are shown, not sent");
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn nothing_is_fetched_and_nothing_runs() {
    let page = html(&hostile());
    assert!(page.contains("default-src 'none'; style-src 'sha256-"));
    for part in [" style=\"", " src=\"", "@import", "javascript:", " onclick"] {
        assert!(!page.contains(part), "{part}");
    }
    // What is cut off at the edge of a picture is named by its place in the page.
    assert_eq!(page.matches("url(").count(), page.matches("url(#").count());
    let anchors = page.matches(" href=\"").count();
    assert_eq!(anchors, page.matches(" href=\"#").count(), "links go to the page itself alone");
}

#[test]
fn an_empty_database_gives_a_page_that_says_so() {
    let page = html(&ReportData::default());
    assert!(page.contains("There is no alert.") && page.contains("Nothing left the network."), "{page}");
}

/// Of a colour as WCAG 2 defines it.
fn luminance(colour: &str) -> f64 {
    let digits: Vec<u32> = colour.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let channels: Vec<f64> = match digits.as_slice() {
        [r, g, b] => [r, g, b].iter().map(|digit| f64::from(**digit * 17)).collect(),
        all => all.chunks(2).map(|pair| f64::from(pair.iter().fold(0, |sum, digit| sum * 16 + digit))).collect(),
    };
    let linear = |channel: f64| {
        let channel = channel / 255.0;
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    };
    channels.iter().zip([0.2126, 0.7152, 0.0722]).map(|(channel, weight)| weight * linear(*channel)).sum()
}

#[test]
fn text_has_the_contrast_of_wcag_aa_in_light_in_dark_and_on_paper() {
    let style = include_str!("style.css");
    let schemes: Vec<&str> = style.match_indices(":root{").filter_map(|(at, _)| style.get(at..)).collect();
    assert_eq!(schemes.len(), 3);
    for scheme in schemes {
        let scheme = scheme.split('}').next().unwrap_or_default();
        let of = |name: &str| {
            let (_, after) = scheme.split_once(&format!("--{name}:#")).unwrap_or_else(|| panic!("{name} in {scheme}"));
            luminance(after.split(';').next().unwrap_or_default())
        };
        let contrast = |a: &str, b: &str| {
            let (a, b) = (of(a), of(b));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for (text, ground) in [("ink", "card"), ("ink", "page"), ("dim", "card"), ("dim", "page"), ("accent", "card")] {
            assert!(contrast(text, ground) >= 4.5, "{text} on {ground}: {}", contrast(text, ground));
        }
        for badge in ["low", "medium", "high", "critical"] {
            assert!(contrast("on", badge) >= 4.5, "{badge}: {}", contrast("on", badge));
        }
        for shape in ["c1", "c2", "c3", "c4", "c5", "c6", "soft"] {
            assert!(contrast(shape, "card") >= 3.0, "{shape}: {}", contrast(shape, "card"));
        }
    }
}
