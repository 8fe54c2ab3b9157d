//! Which connections are decoded at all.

use podtap_stream::Connection;

use super::{Dispatcher, StreamDemand};
use crate::decoder::tracked::{State, Tracked};

/// Why a connection is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is podtap's own: nothing at all is told of it.
    Own,
    /// There is no time for all connections, and this is one of those left out.
    LeftOut,
}

/// Asked about each connection when it carries its first payload.
pub trait Admission {
    /// Is it not to be decoded, and why?
    fn refuse(&mut self, connection: &Connection) -> Option<Refusal>;
}

impl Dispatcher<'_> {
    /// Asks about each connection from now on.
    pub fn admit_by(&mut self, admission: Box<dyn Admission>) {
        self.admission = Some(admission);
    }

    /// A connection as it begins: to be decoded, or refused.
    pub(super) fn admit(&mut self, connection: &Connection) -> Tracked {
        let mut tracked = Tracked::new(connection);
        let refusal = self.admission.as_mut().and_then(|admission| admission.refuse(connection));
        match refusal {
            None => return tracked,
            Some(Refusal::Own) => {
                self.counters.connections_own += 1;
                tracked.untold = true;
            }
            Some(Refusal::LeftOut) => self.counters.connections_left_out += 1,
        }
        tracked.state = State::Ignored { failed: false };
        self.demands.push(StreamDemand::Ignore(connection.id));
        tracked
    }

    /// Lets go of connections that have turned out to be podtap's own.
    pub fn let_go_of_own(&mut self, mut own: impl FnMut(&Tracked) -> bool) {
        for tracked in self.table.iter_mut().filter(|tracked| !tracked.untold && own(tracked)) {
            tracked.untold = true;
            self.counters.connections_own += 1;
            self.demands.push(StreamDemand::Ignore(tracked.stream));
        }
    }
}
