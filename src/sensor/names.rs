//! Names that hosts were told for addresses, for uploads to bare addresses.
//!
//! Names come in as DNS answers pass, in the order of the capture; an upload that has none is given the one that its
//! client was last told for the server's address, while it holds.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::config;
use crate::net::{Address, Span, Timestamp};
use crate::protocol::Name;
use crate::record::{DomainSource, Upload};

/// Names by who was told and for which address.
#[derive(Debug)]
pub(super) struct Names {
    told: LruCache<(Address, Address), Told>,
    grace: Span,
    /// Names that went for want of room.
    pub(super) dropped: u64,
}

/// A name, and until when it holds.
#[derive(Debug)]
struct Told {
    name: Box<str>,
    until: Timestamp,
}

impl Names {
    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    pub(super) fn new(limits: &config::Protocol) -> Self {
        let most = usize::try_from(limits.names).unwrap_or(usize::MAX);
        let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        Self { told: LruCache::new(most), grace: limits.name_grace, dropped: 0 }
    }

    /// A host was told a name.
    pub(super) fn learn(&mut self, name: Name) {
        let key = (name.host, name.address);
        let told = Told { until: name.told.after(name.ttl).after(self.grace), name: name.name.into() };
        if let Some((other, _)) = self.told.push(key, told)
            && other != key
        {
            self.dropped += 1;
        }
    }

    /// Gives an upload without a name the one that holds at its connection's start.
    pub(super) fn complete(&mut self, upload: &mut Upload) {
        if upload.domain.is_some() {
            return;
        }
        let key = (upload.connection.client.address, upload.connection.server.address);
        let Some(told) = self.told.get(&key) else { return };
        if upload.opened <= told.until {
            upload.domain = Some(told.name.to_string());
            upload.domain_source = DomainSource::Dns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Timestamp;

    #[test]
    fn a_name_takes_no_more_than_its_setting_says() {
        // The text, the entry with its links, and its place in the index.
        let entry = size_of::<((Address, Address), Told)>() + 2 * size_of::<usize>();
        assert!(253 + entry + 2 * (size_of::<usize>() + 1) <= 512);
    }

    #[test]
    fn a_name_goes_when_the_table_is_full_and_is_counted() {
        let mut names = Names::new(&config::Protocol { names: 1, ..config::Protocol::default() });
        for last in [1, 2] {
            names.learn(Name {
                host: Address::v4([10, 0, 0, 5]),
                address: Address::v4([192, 0, 2, last]),
                name: "a.example".into(),
                told: Timestamp(0),
                ttl: Span::seconds(1),
            });
        }
        assert_eq!(names.dropped, 1);
    }
}
