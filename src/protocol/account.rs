//! What the readers of one lane hold together, and who gives way when that is more than they may.
//!
//! Each connection's reader tells how much it holds whenever that changes. Beyond the bound, the connection that was
//! silent longest is no longer read.

use std::collections::BTreeSet;

use crate::net::Timestamp;

/// What the order of accounts costs per connection.
const ENTRY: u64 = 64;

/// One connection's part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// Bytes, 0 where the connection is not in the order.
    charged: u64,
    /// Its place in the order: no later than its last packet.
    place: Timestamp,
}

/// A lane's accounts.
#[derive(Debug)]
pub(super) struct Accounts {
    limit: u64,
    held: u64,
    peak: u64,
    /// Connections that hold something, by a time at which they were active and their slot.
    order: BTreeSet<(Timestamp, u32)>,
}

impl Accounts {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, held: 0, peak: 0, order: BTreeSet::new() }
    }

    /// Notes how many bytes a connection's reader holds.
    #[inline]
    pub(super) fn charge(&mut self, account: &mut Account, slot: u32, bytes: usize, now: Timestamp) {
        let bytes = if bytes == 0 { 0 } else { bytes as u64 + ENTRY };
        if bytes != account.charged {
            self.change(account, slot, bytes, now);
        }
    }

    fn change(&mut self, account: &mut Account, slot: u32, bytes: u64, now: Timestamp) {
        self.held = (self.held + bytes).saturating_sub(account.charged);
        self.peak = self.peak.max(self.held);
        if account.charged == 0 {
            account.place = now;
            self.order.insert((now, slot));
        } else if bytes == 0 {
            self.order.remove(&(account.place, slot));
        }
        account.charged = bytes;
    }

    /// Whether all that is held, with `others` bytes beside the accounts, is too much.
    #[inline]
    pub(super) fn exceeded(&self, others: u64) -> bool {
        self.held + others > self.limit
    }

    /// Takes the connection that may have been silent longest out of the order.
    pub(super) fn first(&mut self) -> Option<u32> {
        self.order.pop_first().map(|(_, slot)| slot)
    }

    /// Puts a connection back into the order if it was active since its place there; false if it was not, so that
    /// nobody was silent longer.
    pub(super) fn put_back(&mut self, account: &mut Account, slot: u32, seen: Timestamp) -> bool {
        let active = seen > account.place;
        if active {
            account.place = seen;
            self.order.insert((seen, slot));
        }
        active
    }

    /// The bytes held now.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// The most bytes held at once.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

/// Bytes of a text's buffer.
pub(super) fn text(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_silent_longest_goes_first() {
        let mut accounts = Accounts::new(1000);
        let mut own = [Account::default(); 3];
        for (n, account) in own.iter_mut().enumerate() {
            accounts.charge(account, n as u32, 400, Timestamp(n as u64));
        }
        assert!(accounts.exceeded(0));
        // The first was heard of since.
        assert_eq!(accounts.first(), Some(0));
        assert!(accounts.put_back(&mut own[0], 0, Timestamp(9)));
        assert_eq!(accounts.first(), Some(1));
        assert!(!accounts.put_back(&mut own[1], 1, Timestamp(1)));
        accounts.charge(&mut own[1], 1, 0, Timestamp(9));
        assert!(!accounts.exceeded(0));
        assert!(accounts.exceeded(100));
        for (n, account) in own.iter_mut().enumerate() {
            accounts.charge(account, n as u32, 0, Timestamp(9));
        }
        assert_eq!((accounts.held, accounts.order.len()), (0, 0));
    }
}
