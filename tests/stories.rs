//! Every story of `captures/`, through the real program: its uploads and alerts are those that `expected.json` states.

#![cfg(feature = "sensor")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod common;

use common::{Story, expect};
use serde_json::{Value, json};

/// Makes a test of each story, and the list of those that have one.
macro_rules! stories {
    ($($rule:ident: $folder:literal,)*) => {
        const STORIES: &[&str] = &[$($folder),*];
        $(
            #[test]
            fn $rule() {
                check($folder);
            }
        )*
    };
}

stories! {
    a_staged_archive_that_leaves_by_ftp_is_alerted: "ftp-staged-archive",
    an_archive_that_leaves_by_webdav_is_alerted_and_its_packer_named: "webdav-put",
    two_files_posted_by_a_script_host_to_a_bare_address_are_alerted: "http-multipart",
    an_upload_below_a_denied_parent_is_alerted_for_that_reason: "office-spawns-ftp",
    an_expected_process_to_an_approved_partner_is_recorded_without_alert: "backup-agent",
    small_forms_to_a_popular_site_are_recorded_without_alert: "browser-form",
    active_ftp_over_ipv6_has_the_client_as_its_source: "active-ftp-v6",
    a_host_without_endpoint_events_gives_a_weaker_alert_that_says_so: "no-endpoint",
    parallel_ftp_sessions_of_one_host_keep_their_files_apart: "ftp-lftp-parallel",
    resumed_and_appended_ftp_uploads_count_what_was_sent: "ftp-resume",
    an_upload_refused_and_sent_again_on_one_connection_counts_once: "http-expect-refused",
    a_chunked_upload_is_counted_without_its_framing: "http-chunked-put",
    pipelined_posts_are_told_apart: "http-pipelined",
    an_aborted_ftp_upload_is_partial_and_the_next_one_whole: "ftp-abor",
    extended_passive_ftp_is_followed_in_both_address_families: "ftp-epsv-curl",
    an_ftp_name_chosen_by_the_server_is_the_name_reported: "ftp-stou",
    webdav_requests_with_bodies_are_uploads: "webdav-cadaver",
    proftpd_uploads_and_a_name_of_its_choosing_are_followed: "ftp-proftpd",
    a_passive_address_that_translation_made_wrong_is_bound_by_its_port: "ftp-pasv-nat",
    a_file_renamed_after_its_upload_has_its_last_name: "ftp-rename",
    a_transfer_between_two_servers_is_bound_to_its_command: "ftp-fxp",
    a_transfer_between_two_servers_in_active_mode_is_bound_too: "ftp-fxp-active",
    deflated_transfers_count_what_went_over_the_wire: "ftp-mode-z",
    what_goes_over_tls_is_not_invented: "ftp-tls",
    a_control_connection_that_left_tls_again_is_read_again: "ftp-ccc",
    text_transfers_count_what_went_over_the_wire: "ftp-allo-type-a",
    an_upload_that_the_server_could_not_store_is_partial: "ftp-quota",
    several_sessions_on_another_port_with_names_in_other_scripts_are_told_apart: "ftp-port-2121",
    uploads_in_http2_are_counted_without_padding: "http2-prior-knowledge",
    an_upgrade_to_http2_is_followed_where_it_is_granted: "http2-upgrade",
    what_goes_over_a_websocket_is_one_upload: "websocket-upload",
    an_upload_through_a_proxy_has_the_host_of_its_uri: "http-proxy-put",
    an_upload_in_a_tunnel_has_the_host_of_the_connect: "http-connect-proxy",
}

fn check(folder: &str) {
    let story = Story::named(folder);
    let expected = story.expected();
    let ran = story.replay(&["--json"]).exits(0);
    let mut complaints = Vec::new();
    for (part, dataset) in [("uploads", "outfall.upload"), ("alerts", "outfall.alert")] {
        let wanted = match &expected[part] {
            Value::Array(wanted) => wanted,
            Value::Null => continue,
            other => panic!("{folder}: {part} of expected.json is neither a list nor null: {other}"),
        };
        if let Err(complaint) = expect::compare(wanted, &ran.dataset(dataset)) {
            complaints.push(format!("{folder}: {part}: {complaint}"));
        }
    }
    assert!(complaints.is_empty(), "\n{}\nstderr: {}", complaints.join("\n"), ran.stderr);
}

#[test]
fn every_story_has_a_test() {
    let without: Vec<String> =
        Story::all().into_iter().map(|story| story.name).filter(|name| !STORIES.contains(&name.as_str())).collect();
    assert!(without.is_empty(), "no test for {without:?}");
    assert!(!Story::all().is_empty());
}

#[test]
fn a_comparison_gives_each_expectation_a_record_of_its_own() {
    let narrow = json!({ "source.ip": "10.0.0.1", "outfall.upload.bytes": 5 });
    let wide = json!({ "source.ip": "10.0.0.1" });
    let record = |bytes: u64| json!({ "source": { "ip": "10.0.0.1" }, "outfall": { "upload": { "bytes": bytes } } });
    assert_eq!(expect::compare(&[wide.clone(), narrow.clone()], &[record(5), record(6)]), Ok(()));
    let missing = expect::compare(&[wide.clone(), narrow.clone()], &[record(6), record(6)]).unwrap_err();
    assert!(missing.contains("outfall.upload.bytes: expected 5, found 6"), "{missing}");
    let too_few = expect::compare(&[wide.clone(), narrow], &[record(5)]).unwrap_err();
    assert!(too_few.contains("2 records expected, 1 found"), "{too_few}");
    let too_many = expect::compare(&[wide], &[record(5), record(6)]).unwrap_err();
    assert!(too_many.contains("not expected"), "{too_many}");
}

#[test]
fn a_comparison_of_alerts_is_exact_in_reasons_and_severity_and_finds_the_files() {
    let record = json!({
        "event": { "severity": 73 },
        "outfall": {
            "reasons": [{ "id": "data-staged" }, { "id": "volume" }],
            "join": { "files": [{ "name": "a.zip", "process": { "name": "zip.exe" } }, { "name": "b.txt" }] },
        },
    });
    let compare = |want: Value| expect::compare(&[want], std::slice::from_ref(&record));
    let files = json!([{ "name": "a.zip", "process": "zip.exe" }, { "name": "b.txt", "process": null }]);
    assert_eq!(compare(json!({ "reasons": ["volume", "data-staged"], "severity": 73, "files": files })), Ok(()));
    assert!(compare(json!({ "reasons": ["volume"] })).is_err());
    assert!(compare(json!({ "reasons": ["data-staged", "rare", "volume"] })).is_err());
    assert!(compare(json!({ "severity": 72 })).is_err());
    assert!(compare(json!({ "files": [{ "name": "b.txt", "process": "zip.exe" }] })).is_err());
}
