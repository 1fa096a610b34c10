//! What a gap does to the readers of one connection: where a length is known it is passed over by arithmetic, else
//! the place is lost until the next message.

use super::{Connection, Reader};
use crate::flow::{Gap, Link};
use crate::protocol::Context;

impl Connection {
    /// Passes over lost stream bytes.
    pub(in crate::protocol) fn gap(&mut self, link: &Link, gap: Gap, context: &mut Context<'_>) {
        if gap.side == self.client {
            self.decide(link, gap.ts, context);
        }
        *self.position.of_mut(gap.side) = gap.offset + gap.length;
        if gap.side != self.client {
            self.give_up_waiting(link, context);
            let was_lost = matches!(self.response, Reader::Lost);
            self.response = match std::mem::replace(&mut self.response, Reader::Lost) {
                Reader::Http2 => {
                    self.http2_gap(link, gap, context);
                    Reader::Http2
                }
                Reader::Body(mut framing) => match framing.skip(gap.length) {
                    Some((_, 0)) if framing.is_done() => Reader::FRESH,
                    Some((_, 0)) => Reader::Body(framing),
                    _ => Reader::Lost,
                },
                Reader::Opaque => Reader::Opaque,
                _ => Reader::Lost,
            };
            let lost = !was_lost && matches!(self.response, Reader::Lost);
            context.counters.http_responses_lost += u64::from(lost);
            return;
        }
        let before = context.counters.http_lost;
        self.client_gap(link, gap, context);
        self.requests_lost |= context.counters.http_lost > before;
    }

    fn client_gap(&mut self, link: &Link, gap: Gap, context: &mut Context<'_>) {
        match std::mem::replace(&mut self.request, Reader::Lost) {
            Reader::Opaque => self.request = Reader::Opaque,
            Reader::Http2 => {
                self.request = Reader::Http2;
                self.http2_gap(link, gap, context);
            }
            Reader::WebSocket(frames) => self.websocket_gap(link, frames, gap, context),
            Reader::Body(mut framing) => {
                let Some(exchange) = self.queue.back_mut() else { return };
                let certain = framing.certain(gap.length);
                match framing.skip(gap.length) {
                    Some((entity, behind)) => {
                        exchange.gap(entity, gap.ts, context);
                        exchange.end_offset = gap.offset + entity;
                        if exchange.passes(context.limits.running_report.0) {
                            exchange.report_running(link, context);
                        }
                        if framing.is_done() {
                            self.end_body(link, gap.offset + entity, context);
                            if behind > 0 {
                                context.counters.http_lost += 1;
                                self.request = Reader::Lost;
                            }
                        } else {
                            self.request = Reader::Body(framing);
                        }
                    }
                    None => {
                        // The gap swallowed framing: what is certain is counted, the rest is not guessed.
                        context.counters.http_lost += 1;
                        exchange.gap(certain, gap.ts, context);
                        exchange.end_offset = gap.offset + certain;
                        exchange.broken = true;
                        exchange.complete = true;
                        exchange.end_files(context);
                        self.receiving = false;
                        self.report_finished(link, context);
                    }
                }
            }
            Reader::Switch(_) => {
                context.counters.http_lost += 1;
                self.end_exchange(link, gap.offset, context);
                self.request = Reader::Lost;
            }
            Reader::Head(_) | Reader::Lost => context.counters.http_lost += 1,
        }
    }
}
