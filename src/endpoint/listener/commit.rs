//! The thread that writes the journal: gathers what came, has it on the disk, and then lets it be acknowledged.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::hosts::Host;
use super::journal::{Entry, Journal, MOST};
use super::queue::Receiver;
use super::shared::Shared;
use crate::endpoint::authority::now;

/// How long until the disk is tried again after it refused.
const AGAIN: Duration = Duration::from_secs(1);

/// How often it looks up where nothing comes.
const TICK: Duration = Duration::from_millis(200);

/// What is gathered at most before it is written.
const GATHERED: usize = MOST / 4;

/// Lines to be stored, and whom to tell.
pub(super) struct Request {
    pub(super) entry: Entry,
    pub(super) host: Option<Arc<Host>>,
}

/// Runs until the listener is over and all is written, or until the end cannot wait for the disk.
pub(super) async fn run(mut requests: Receiver<Request>, mut journal: Journal, shared: Arc<Shared>) {
    let gather = Duration::from_nanos(shared.settings.commit.0);
    loop {
        let first = match tokio::time::timeout(TICK, requests.take()).await {
            Ok(Some(first)) => first,
            Ok(None) => break,
            Err(_) if shared.is_over() => break,
            Err(_) => {
                journal.tidy(now());
                shared.publish(journal.counters());
                continue;
            }
        };
        if !shared.is_stopping() {
            tokio::time::sleep(gather).await;
        }
        let mut rooms = vec![first.1];
        let mut size = first.0.entry.size();
        let mut gathered = vec![first.0];
        while size < GATHERED
            && let Some((request, room)) = requests.try_take_with_room()
        {
            size += request.entry.size();
            gathered.push(request);
            rooms.push(room);
        }
        if !write(&mut journal, &shared, gathered).await {
            break;
        }
        // Its room is free once it is written, so that what waits for the disk is bounded.
        rooms.into_iter().for_each(drop::<OwnedSemaphorePermit>);
        journal.tidy(now());
        shared.publish(journal.counters());
    }
    shared.publish(journal.counters());
}

/// Has what was gathered on the disk; false where the sensor ends before the disk takes it.
async fn write(journal: &mut Journal, shared: &Shared, gathered: Vec<Request>) -> bool {
    let (entries, hosts): (Vec<Entry>, Vec<Option<Arc<Host>>>) =
        gathered.into_iter().map(|request| (request.entry, request.host)).unzip();
    shared.disk.begin();
    let mut said = false;
    while let Err(error) = journal.append(&entries, now()) {
        shared.disk.refuse();
        shared.publish(journal.counters());
        if !said {
            said = true;
            shared.log(format!("warning: the journal cannot be written, nothing is acknowledged: {error}"));
        }
        if shared.is_stopping() {
            return false;
        }
        tokio::time::sleep(AGAIN).await;
        journal.tidy(now());
    }
    shared.disk.end();
    if said {
        shared.log("the journal is written again".to_owned());
    }
    for (entry, host) in entries.iter().zip(&hosts) {
        if let Some(host) = host {
            host.store(entry.stream, entry.seq);
        }
    }
    true
}
