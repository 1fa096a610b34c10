//! How much a connection's readers hold, and what is reported where they read no more: because the connection is over,
//! or because others need the memory.

use super::exchange::Exchange;
use super::{Connection, Reader};
use crate::flow::{Link, Totals};
use crate::net::Timestamp;
use crate::protocol::Context;
use crate::protocol::account::text;
use crate::record::Note;

impl Connection {
    /// Only the newest exchange can have come to hold more, or less.
    pub(super) fn recharge(&mut self) {
        if let Some((before, now)) = self.queue.back_mut().map(Exchange::recharge) {
            self.exchanges = (self.exchanges + now).saturating_sub(before);
        }
    }

    /// Bytes that are held.
    pub(in crate::protocol) fn weight(&mut self) -> usize {
        self.recharge();
        let http2 = self.http2.as_ref().map_or(0, |http2| http2.weight());
        let tables =
            self.queue.capacity() * size_of::<Exchange>() + self.early.capacity() * size_of::<(u16, u64, Timestamp)>();
        let buffers = self.request.weight() + self.response.weight() + self.undecided.capacity();
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.weight());
        size_of::<Self>() + text(&self.tunnel) + self.exchanges + http2 + tables + buffers + waiting
    }

    /// The connection is over: whatever is pending is reported as far as it came.
    pub(in crate::protocol) fn close(mut self, link: &Link, totals: &Totals, context: &mut Context<'_>) {
        let server_bytes = *totals.bytes.of(self.client.peer());
        self.give_up_waiting(link, context);
        self.decide(link, totals.end, context);
        if self.receiving
            && let Some(exchange) = self.queue.back_mut()
        {
            exchange.cut_short = true;
            exchange.end_files(context);
        }
        self.report_all(link, server_bytes, context);
        if let Some(http2) = self.http2 {
            http2.close(link, totals, context);
        }
    }

    /// The connection is no longer read: whatever is pending is reported as far as it came.
    pub(in crate::protocol) fn retire(mut self, link: &Link, ts: Timestamp, context: &mut Context<'_>) {
        let server_bytes = *self.position.of(self.client.peer());
        self.give_up_waiting(link, context);
        self.decide(link, ts, context);
        if self.receiving
            && let Some(exchange) = self.queue.back_mut()
        {
            exchange.broken = true;
            exchange.end_files(context);
        }
        for exchange in &mut self.queue {
            exchange.note(Note::Retired);
        }
        self.report_all(link, server_bytes, context);
        if let Some(http2) = self.http2 {
            http2.retire(link, context);
        }
    }

    fn report_all(&mut self, link: &Link, server_bytes: u64, context: &mut Context<'_>) {
        while let Some(exchange) = self.queue.pop_front() {
            let client_bytes = exchange.end_offset;
            self.see_off(&exchange);
            exchange.report(link, client_bytes, server_bytes, context);
        }
    }
}

impl Reader {
    /// Bytes that are held.
    fn weight(&self) -> usize {
        match self {
            Self::Head(collected) => collected.capacity(),
            Self::Switch(switch) => switch.weight(),
            _ => 0,
        }
    }
}
