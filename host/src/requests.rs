//! Requests as an operator counts them: exchanges by protocol, server port, vantage and outcome, with their durations in
//! fixed buckets.
//!
//! Kept by each thread that publishes, next to the summary, and copied for whoever asks for metrics. Labels are bounded
//! whatever traffic holds: beyond a number of servers, exchanges are counted under `other`; no address, path or statement
//! is a label. Which servers have rows of their own is decided once and for all threads, so that no sum over them ever falls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};

use crate::event::{Exchange, Outcome, Vantage};

/// Upper bounds of the buckets, ns. Those from 5 ms to 10 s are what OpenTelemetry's conventions say of
/// `http.server.request.duration`. Those below are for databases, caches and services of the same host, most of whose
/// answers take less than 5 ms: they would all be in one bucket.
pub const BUCKETS_NS: [u64; 19] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
];

/// Stands for protocol and port beyond the bound.
const OTHER: &str = "other";

/// Exchanges of one server, one array element an outcome, in the order of [`Outcome::ALL`].
type Server = [Option<Box<Durations>>; Outcome::ALL.len()];

/// Port of a server, and on whose side of its connections podtap is.
type Place = (u16, Option<Vantage>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    /// A few protocols: those that decoders declare.
    protocols: Vec<(Box<str>, HashMap<Place, Server>)>,
    other: Server,
    admitted: Arc<Admitted>,
    /// No further server is admitted, and those that are have their place here.
    is_settled: bool,
}

/// Servers that have rows of their own, in every thread.
#[derive(Debug, Default)]
struct Admitted {
    places: Mutex<HashMap<Box<str>, HashSet<Place>>>,
    max: usize,
}

impl Admitted {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, HashSet<Place>>> {
        // Whole between any two statements that change it.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long exchanges took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// Exchanges, those included whose duration is not known.
    pub exchanges: u64,
    /// Exchanges whose duration is known.
    pub count: u64,
    /// Of their durations, ns.
    pub sum_ns: u64,
    /// How many were within each bound of [`BUCKETS_NS`] but not within the one before; last, those beyond all.
    pub buckets: [u64; BUCKETS_NS.len() + 1],
}

/// Exchanges of one server with one outcome.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Of the decoder that read them; `other` beyond the bound.
    pub protocol: &'a str,
    /// Of the server; none beyond the bound.
    pub port: Option<u16>,
    /// On whose side they were captured, where that is known.
    pub vantage: Option<Vantage>,
    /// How they ended.
    pub outcome: Outcome,
    /// How many, and how long they took.
    pub durations: &'a Durations,
}

impl Requests {
    /// For so many servers.
    pub fn new(max_servers: usize) -> Requests {
        let admitted = Arc::new(Admitted { max: max_servers, ..Admitted::default() });
        Requests { admitted, ..Requests::default() }
    }

    /// For the same servers, with nothing counted.
    pub fn emptied(&self) -> Requests {
        Requests { admitted: Arc::clone(&self.admitted), ..Requests::default() }
    }

    /// Those of another, too.
    pub fn add(&mut self, other: &Requests) {
        for (protocol, servers) in &other.protocols {
            for (place, server) in servers {
                add(self.server(protocol, *place), server);
            }
        }
        add(&mut self.other, &other.other);
    }

    /// Counts an exchange. Allocates only for a server or an outcome of it that was not there before.
    pub fn record(&mut self, exchange: &Exchange<'_>) {
        let server = self.server(&exchange.protocol, (exchange.server.port, exchange.vantage));
        server[exchange.outcome as usize].get_or_insert_default().record(exchange.duration);
    }

    fn server(&mut self, protocol: &str, place: Place) -> &mut Server {
        match self.index(protocol) {
            Some(index) if self.protocols[index].1.contains_key(&place) => {
                self.protocols[index].1.entry(place).or_default()
            }
            _ if self.admit(protocol, place) => self.place(protocol, place),
            _ => &mut self.other,
        }
    }

    fn index(&self, protocol: &str) -> Option<usize> {
        self.protocols.iter().position(|(name, _)| **name == *protocol)
    }

    fn place(&mut self, protocol: &str, place: Place) -> &mut Server {
        let index = self.index(protocol).unwrap_or_else(|| {
            self.protocols.push((protocol.into(), HashMap::new()));
            self.protocols.len() - 1
        });
        self.protocols[index].1.entry(place).or_default()
    }

    /// Has a server that is new here rows of its own? Once there is room for no more, nobody is asked again.
    fn admit(&mut self, protocol: &str, place: Place) -> bool {
        if self.is_settled {
            return false;
        }
        let admitted = Arc::clone(&self.admitted);
        let mut places = admitted.lock();
        if places.get(protocol).is_some_and(|places| places.contains(&place)) {
            return true;
        }
        if places.values().map(HashSet::len).sum::<usize>() < admitted.max {
            return places.entry(protocol.into()).or_default().insert(place);
        }
        for (protocol, places) in &*places {
            for place in places {
                self.place(protocol, *place);
            }
        }
        self.is_settled = true;
        false
    }

    /// All there are, in a fixed order.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut servers: Vec<_> = self
            .protocols
            .iter()
            .flat_map(|(protocol, servers)| servers.iter().map(|(place, server)| (&**protocol, *place, server)))
            .collect();
        servers.sort_by_key(|(protocol, (port, vantage), _)| (*protocol, *port, vantage.map(Vantage::name)));
        let named =
            servers.into_iter().map(|(protocol, (port, vantage), server)| (protocol, Some(port), vantage, server));
        let rows = named.chain([(OTHER, None, None, &self.other)]).flat_map(|(protocol, port, vantage, server)| {
            let outcomes = Outcome::ALL.into_iter().zip(server);
            outcomes.filter_map(move |(outcome, durations)| {
                Some(Row { protocol, port, vantage, outcome, durations: durations.as_deref()? })
            })
        });
        rows.collect()
    }
}

fn add(server: &mut Server, other: &Server) {
    for (durations, other) in server.iter_mut().zip(other) {
        if let Some(other) = other {
            durations.get_or_insert_default().add(other);
        }
    }
}

impl Durations {
    fn add(&mut self, other: &Durations) {
        self.exchanges += other.exchanges;
        self.count += other.count;
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
    }

    fn record(&mut self, duration_ns: Option<u64>) {
        self.exchanges += 1;
        if let Some(ns) = duration_ns {
            self.count += 1;
            self.sum_ns = self.sum_ns.saturating_add(ns);
            // A bound belongs to its bucket, as `le` says.
            self.buckets[BUCKETS_NS.partition_point(|bound| *bound < ns)] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::example_event;

    fn exchange(port: u16, outcome: Outcome, duration: Option<u64>) -> Exchange<'static> {
        let mut exchange = example_event();
        (exchange.server.port, exchange.outcome, exchange.duration) = (port, outcome, duration);
        exchange
    }

    #[test]
    fn a_duration_is_in_the_bucket_of_the_first_bound_that_it_does_not_exceed() {
        let mut requests = Requests::new(4);
        for ns in [0, 100_000, 100_001, 10_000_000_000, 10_000_000_001, u64::MAX] {
            requests.record(&exchange(80, Outcome::Ok, Some(ns)));
        }
        requests.record(&exchange(80, Outcome::NoResponse, None));
        let rows = requests.rows();
        let [ok, none] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((ok.durations.buckets[0], ok.durations.buckets[1]), (2, 1));
        assert_eq!((ok.durations.buckets[18], ok.durations.buckets[19]), (1, 2));
        assert_eq!((ok.durations.exchanges, ok.durations.count, ok.durations.sum_ns), (6, 6, u64::MAX));
        assert_eq!((none.durations.exchanges, none.durations.count), (1, 0));
        assert!(BUCKETS_NS.is_sorted());
    }

    #[test]
    fn those_of_two_together_are_those_of_one() {
        let [mut first, mut second, mut both] = [Requests::new(3), Requests::new(3), Requests::new(3)];
        for number in 0..40_u16 {
            let outcome = if number % 3 == 0 { Outcome::Error } else { Outcome::Ok };
            let exchange = exchange(number % 5, outcome, (number % 4 > 0).then_some(u64::from(number) * 1_000_000));
            both.record(&exchange);
            if number < 20 { &mut first } else { &mut second }.record(&exchange);
        }
        let mut sum = first.emptied();
        sum.add(&first);
        sum.add(&second);
        let rows = |requests: &Requests| format!("{:?}", requests.rows());
        assert_eq!(rows(&sum), rows(&both));
    }

    #[test]
    fn no_sum_over_threads_falls_whichever_servers_each_of_them_sees() {
        let first = Requests::new(4);
        let mut threads = [first.emptied(), first.emptied(), first];
        let mut before: HashMap<_, u64> = HashMap::new();
        let mut random = 1_u64;
        for number in 1..=600_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (thread, port) = ((random >> 33) as usize % 3, (random >> 40) as u16 % 12);
            threads[thread].record(&exchange(port, Outcome::Ok, Some(1)));
            // As whoever asks adds copies of them.
            let mut sum = threads[0].clone();
            threads[1..].iter().for_each(|other| sum.add(other));
            let rows: HashMap<_, _> =
                sum.rows().iter().map(|row| ((row.protocol.to_owned(), row.port), row.durations.exchanges)).collect();
            assert_eq!(rows.values().sum::<u64>(), number);
            assert!(rows.len() <= 5, "{rows:?}");
            for (row, count) in &before {
                assert!(rows.get(row).is_some_and(|now| now >= count), "{row:?}: {count} of {before:?}, then {rows:?}");
            }
            before = rows;
        }
        assert_eq!(before.len(), 5);
    }

    #[test]
    fn servers_are_bounded_and_what_is_beyond_is_counted_together() {
        let mut requests = Requests::new(3);
        for port in 1..=10 {
            requests.record(&exchange(port, Outcome::Ok, Some(1)));
        }
        // Known ones stay known.
        requests.record(&exchange(2, Outcome::Error, Some(1)));
        let rows: Vec<_> =
            requests.rows().iter().map(|row| (row.protocol, row.port, row.durations.exchanges)).collect();
        let expected =
            [("http", Some(1), 1), ("http", Some(2), 1), ("http", Some(2), 1), ("http", Some(3), 1), (OTHER, None, 7)];
        assert_eq!(rows, expected.map(|(protocol, port, count)| (protocol, port, count)));
    }
}
