//! The contract's test kit: a component of any language, call by call, against the rules of `wit/podtap-decoder.wit`.
//!
//! In: a loaded plugin and, where there are captures, what real connections say. Out: a line for each rule, with what is
//! wrong. Every output is checked as podtap itself checks it.

use std::net::{IpAddr, Ipv4Addr};

use podtap_stream::{Endpoint, Side};

use super::Random;
use super::recording::{Happening, Recording};
use crate::decoder::{Batch, DemandKind, Entry, Failure, Instance, Place, Plugin, Row, Runtime, Verdict};

/// Capture time of the first entry.
const START_NS: u64 = 1_700_000_000_000_000_000;

/// Steps of a conversation that are used, and bytes of each.
const MAX_STEPS: usize = 200;
const MAX_STEP_BYTES: usize = 4096;

/// What `configure` must answer, whatever it thinks of it.
const ODD_CONFIGURATIONS: [&str; 9] = [
    "{\"no-such-key\":1}",
    "{\"a\":{\"b\":[null,true,-1.5e300,\"\\u0000\"]}}",
    "[]",
    "null",
    "0",
    "\"text\"",
    "{",
    "",
    "{\"ä\":\"\u{1f980}\"}",
];

/// One rule and whether the component keeps to it.
#[derive(Debug)]
pub struct Check {
    /// What was tried.
    pub name: &'static str,
    /// The rule, in the words of the contract.
    pub rule: &'static str,
    /// What is wrong; none where it is kept.
    pub fault: Option<String>,
}

type Try = fn(&Kit<'_>) -> Result<(), String>;

const CHECKS: [(&str, &str, Try); 16] = [
    ("describe is stable", "`describe`: once, and again whenever podtap wants to show what the decoder is", |kit| {
        kit.describe()
    }),
    ("configure takes {}", "`configure` takes `{}` where there is no section in the configuration", |kit| {
        kit.configure_empty()
    }),
    ("configure answers odd JSON", "`configure`: an error is one line that names the key", |kit| kit.configure_odd()),
    ("probe answers every head", "`probe`: yes, no or need-more for what a side sent first", |kit| kit.probe_all()),
    ("probe keeps no state", "the same calls give the same answers", |kit| kit.probe_stateless()),
    ("feed takes an empty batch", "`feed` takes what happened: of nothing comes nothing", |kit| kit.empty_batch()),
    ("entries of unknown connections", "an exchange is of a connection that the decoder has", |kit| {
        kit.unknown_connections()
    }),
    ("every kind of entry", "`batch.kinds`: data, gap, end, closed, of either side", |kit| kit.every_kind()),
    (
        "undecoded bytes",
        "`output.undecoded-bytes`: payload bytes that belong to no exchange, because they made no sense",
        |kit| kit.undecoded(),
    ),
    ("ids are used again", "`opened-connection.id`: free again after the entry `closed`", |kit| kit.ids_again()),
    ("connections do not mix", "entries of a connection are its own, however they are interleaved", |kit| {
        kit.interleaved()
    }),
    ("midstream", "`opened-connection.midstream`: the first bytes may be in the middle of a message", |kit| {
        kit.midstream()
    }),
    (
        "same calls, same answers",
        "a decoder has no clock and no randomness: the same calls give the same answers",
        |kit| kit.repeatable(),
    ),
    ("demands are honoured", "data may be left out up to the position that the decoder demanded to skip to", |kit| {
        kit.demands()
    }),
    ("a side ends before a demand", "demands are advice: a side may end before the position", |kit| {
        kit.demand_beyond_end()
    }),
    ("a large batch", "a call that runs past its deadline or breaks a limit ends the instance", |kit| {
        kit.large_batch()
    }),
];

/// Tries every rule. `batch_entries` and `batch_bytes`: what podtap gives in one call.
pub fn check_contract(
    runtime: &Runtime,
    plugin: &Plugin,
    recordings: &[Recording],
    batch_entries: usize,
    batch_bytes: usize,
) -> Vec<Check> {
    let kit = Kit { runtime, plugin, talks: talks(recordings), batch_entries, batch_bytes };
    let check = |&(name, rule, attempt): &(_, _, Try)| Check { name, rule, fault: attempt(&kit).err() };
    CHECKS.iter().map(check).collect()
}

/// What the sides of a connection say, in order: true for the server.
type Talk = Vec<(bool, Vec<u8>)>;

/// Conversations of the captures, and some that no protocol has.
fn talks(recordings: &[Recording]) -> Vec<Talk> {
    let mut talks = Vec::new();
    for recording in recordings {
        for number in 0..recording.connections.len().min(3) {
            let of_it = recording.recorded.iter().filter(|recorded| recorded.connection == number);
            let said = of_it.filter_map(|recorded| match &recorded.happening {
                Happening::Data(side, _, bytes) => {
                    Some((*side == Side::B, bytes[..bytes.len().min(MAX_STEP_BYTES)].to_vec()))
                }
                _ => None,
            });
            talks.push(said.take(MAX_STEPS).collect());
        }
    }
    talks.truncate(6);
    let mut random = Random(1);
    for lines in [true, false] {
        let piece = |random: &mut Random| -> Vec<u8> {
            let length = 1 + random.below(300);
            (0..length).map(|_| random.bits() as u8).map(|byte| if lines { b' ' + byte % 95 } else { byte }).collect()
        };
        talks.push((0..40).map(|step| (step % 2 == 1, [piece(&mut random), b"\r\n".to_vec()].concat())).collect());
    }
    talks
}

struct Kit<'k> {
    runtime: &'k Runtime,
    plugin: &'k Plugin,
    talks: Vec<Talk>,
    batch_entries: usize,
    batch_bytes: usize,
}

/// What a call of `feed` gave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fed {
    /// Connection and all else of each exchange.
    rows: Vec<(u32, String)>,
    demands: Vec<(u32, bool, DemandKind, u64)>,
    undecoded_bytes: u64,
}

impl Kit<'_> {
    fn bare(&self) -> Result<Instance, String> {
        self.runtime.bare_instance(self.plugin).map_err(|failure| format!("instantiated: {failure}"))
    }

    fn instance(&self) -> Result<Instance, String> {
        let mut instance = self.bare()?;
        match instance.configure("{}") {
            Ok(None) => Ok(instance),
            Ok(Some(refusal)) => Err(format!("configure refuses {{}}: {refusal}")),
            Err(failure) => Err(format!("configure of {{}}: {failure}")),
        }
    }

    /// Feeds a batch; `open` are the connections that the decoder has.
    fn feed(&self, instance: &mut Instance, batch: &Batch, open: impl Fn(u32) -> bool) -> Result<Fed, String> {
        let shown = |row: Row<'_>| {
            let Row { connection, protocol, outcome, times, sizes, texts, attributes, .. } = row;
            (connection, format!("{:?}", (protocol, outcome, times, sizes, texts, attributes)))
        };
        let fed = instance.feed(batch, &self.plugin.descriptor, |rows| Fed {
            rows: rows.each().map(shown).collect(),
            demands: rows.demands().map(|it| (it.connection, it.from_server, it.kind, it.position)).collect(),
            undecoded_bytes: rows.undecoded_bytes(),
        });
        let fed = fed.map_err(|failure: Failure| format!("feed of {} entries: {failure}", batch.len()))?;
        if let Some((foreign, _)) = fed.rows.iter().find(|(connection, _)| !open(*connection)) {
            return Err(format!("an exchange of connection {foreign}, which it does not have"));
        }
        if let Some((foreign, ..)) = fed.demands.iter().find(|(connection, ..)| !open(*connection)) {
            return Err(format!("a demand of connection {foreign}, which it does not have"));
        }
        Ok(fed)
    }

    fn describe(&self) -> Result<(), String> {
        let (mut one, mut other) = (self.bare()?, self.instance()?);
        let mut first = None;
        for instance in [&mut one, &mut other] {
            for _ in 0..2 {
                let said = instance.describe().map_err(|failure| format!("describe: {failure}"))?;
                let said = format!("{said:?}");
                if first.get_or_insert_with(|| said.clone()) != &said {
                    return Err("describe gives another descriptor when it is called again".to_owned());
                }
            }
        }
        Ok(())
    }

    fn configure_empty(&self) -> Result<(), String> {
        self.instance().map(drop)
    }

    fn configure_odd(&self) -> Result<(), String> {
        for odd in ODD_CONFIGURATIONS {
            match self.bare()?.configure(odd) {
                Err(failure) => return Err(format!("configure of {odd:?}: {failure}")),
                Ok(Some(refusal)) if refusal.trim().is_empty() => {
                    return Err(format!("configure of {odd:?} refuses without a word"));
                }
                Ok(Some(refusal)) if refusal.contains('\n') => {
                    return Err(format!("configure of {odd:?} refuses in more than one line"));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Heads of every length that matters, of real connections and of none.
    fn heads(&self) -> Vec<(bool, Vec<u8>)> {
        let mut heads = vec![(false, Vec::new()), (true, Vec::new())];
        for (from_server, bytes) in self.talks.iter().flat_map(|talk| talk.iter().take(2)) {
            for length in [1, 2, 3, 4, 5, 8, 16, 64, 1024].into_iter().filter(|length| *length <= bytes.len()) {
                heads.extend([*from_server, !from_server].map(|side| (side, bytes[..length].to_vec())));
            }
        }
        for byte in (0..=255).step_by(5) {
            heads.extend([false, true].map(|side| (side, vec![byte; 1 + usize::from(byte) % 7])));
        }
        heads.extend([false, true].map(|side| (side, vec![b'x'; 16 << 10])));
        heads
    }

    fn probes(&self, instance: &mut Instance, heads: &[(bool, Vec<u8>)]) -> Result<Vec<Verdict>, String> {
        let probe = |(from_server, head): &(bool, Vec<u8>)| {
            let said = instance.probe(*from_server, head);
            said.map_err(|failure| format!("probe of {} bytes, from-server {from_server}: {failure}", head.len()))
        };
        heads.iter().map(probe).collect()
    }

    fn probe_all(&self) -> Result<(), String> {
        self.probes(&mut self.instance()?, &self.heads()).map(drop)
    }

    fn probe_stateless(&self) -> Result<(), String> {
        let (mut instance, mut heads) = (self.instance()?, self.heads());
        let first = self.probes(&mut instance, &heads)?;
        if self.probes(&mut instance, &heads)? != first {
            return Err("probe answers another thing when it is asked again".to_owned());
        }
        heads.reverse();
        let mut backwards = self.probes(&mut self.instance()?, &heads)?;
        backwards.reverse();
        if backwards != first {
            return Err("probe answers another thing when it is asked in another order".to_owned());
        }
        Ok(())
    }

    fn empty_batch(&self) -> Result<(), String> {
        match self.feed(&mut self.instance()?, &Batch::default(), |_| false)? {
            fed if fed == Fed::default() => Ok(()),
            fed => Err(format!("{fed:?}")),
        }
    }

    fn unknown_connections(&self) -> Result<(), String> {
        let mut instance = self.instance()?;
        let mut script = Script::default();
        for id in [0, 7, 70_000] {
            script.every_kind(id, &self.talks[0]);
        }
        self.feed(&mut instance, &script.batch, |_| false).map(drop)
    }

    fn every_kind(&self) -> Result<(), String> {
        for talk in &self.talks {
            for how in 0..3 {
                let mut script = Script::default();
                script.open(3, false);
                script.every_kind(3, talk);
                script.push(3, false, Entry::Closed(how));
                self.feed(&mut self.instance()?, &script.batch, |id| id == 3)?;
            }
        }
        Ok(())
    }

    fn undecoded(&self) -> Result<(), String> {
        for talk in &self.talks {
            let mut script = Script::default();
            script.open(0, false);
            script.every_kind(0, talk);
            script.push(0, false, Entry::Closed(0));
            let fed = self.feed(&mut self.instance()?, &script.batch, |id| id == 0)?;
            if fed.undecoded_bytes > script.batch.data_len() as u64 {
                return Err(format!("{} bytes undecoded of {} given", fed.undecoded_bytes, script.batch.data_len()));
            }
        }
        Ok(())
    }

    /// A whole connection under an id.
    fn whole(talk: &Talk, id: u32, script: &mut Script) {
        script.open(id, false);
        script.say(id, talk);
        script.push(id, false, Entry::End);
        script.push(id, true, Entry::End);
        script.push(id, false, Entry::Closed(0));
    }

    fn ids_again(&self) -> Result<(), String> {
        for talk in &self.talks {
            let mut instance = self.instance()?;
            let mut first = None;
            for turn in 1..=3 {
                let mut script = Script::default();
                Kit::whole(talk, 2, &mut script);
                let fed = self.feed(&mut instance, &script.batch, |id| id == 2)?;
                if *first.get_or_insert_with(|| (fed.rows.clone(), fed.undecoded_bytes))
                    != (fed.rows, fed.undecoded_bytes)
                {
                    return Err(format!(
                        "the same connection gives other exchanges when its id is used for the {turn}. time"
                    ));
                }
            }
        }
        Ok(())
    }

    fn interleaved(&self) -> Result<(), String> {
        const CONNECTIONS: u32 = 100;
        for talk in &self.talks {
            let mut alone = Script::default();
            alone.open(0, false);
            alone.say(0, talk);
            let alone = self.feed(&mut self.instance()?, &alone.batch, |id| id == 0)?;
            let mut script = Script::default();
            (0..CONNECTIONS).for_each(|id| script.open(id, false));
            for step in talk {
                let time_ns = script.now_ns;
                for id in 0..CONNECTIONS {
                    script.now_ns = time_ns;
                    script.say(id, std::slice::from_ref(step));
                }
            }
            let all = self.feed(&mut self.instance()?, &script.batch, |id| id < CONNECTIONS)?;
            for id in 0..CONNECTIONS {
                let of_it: Vec<_> = all.rows.iter().filter(|(of, _)| *of == id).map(|(_, row)| row).collect();
                if !alone.rows.iter().map(|(_, row)| row).eq(of_it.iter().copied()) {
                    return Err(format!(
                        "connection {id} of {CONNECTIONS} gives {} exchanges, other than the {} it gives alone",
                        of_it.len(),
                        alone.rows.len()
                    ));
                }
            }
        }
        Ok(())
    }

    fn midstream(&self) -> Result<(), String> {
        for talk in &self.talks {
            for skip in 1..talk.len().min(6) {
                let mut script = Script::default();
                script.open(0, true);
                script.positions.insert((0, false), 5_000_000_000);
                let mut talk = talk[skip..].to_vec();
                if let Some((_, first)) = talk.first_mut() {
                    drop(first.drain(..first.len() / 2));
                }
                script.say(0, &talk);
                script.push(0, false, Entry::Closed(2));
                self.feed(&mut self.instance()?, &script.batch, |id| id == 0)?;
            }
        }
        Ok(())
    }

    fn repeatable(&self) -> Result<(), String> {
        let (mut one, mut other) = (self.instance()?, self.instance()?);
        for talk in &self.talks {
            for (id, entries) in [(0, 1), (1, 3), (2, usize::MAX)] {
                let mut script = Script::default();
                script.open(id, false);
                for steps in talk.chunks(entries.min(talk.len().max(1))) {
                    script.say(id, steps);
                    let batch = std::mem::take(&mut script.batch);
                    let fed = [&mut one, &mut other].map(|instance| self.feed(instance, &batch, |it| it == id));
                    let [first, second] = fed;
                    if first? != second? {
                        return Err("two instances answer the same calls differently".to_owned());
                    }
                }
                script.push(id, false, Entry::Closed(0));
                for instance in [&mut one, &mut other] {
                    self.feed(instance, &script.batch, |it| it == id)?;
                }
            }
        }
        Ok(())
    }

    /// Says the talk step by step, leaving out what was demanded.
    fn with_demands(&self, talk: &[(bool, Vec<u8>)]) -> Result<(), String> {
        let mut instance = self.instance()?;
        let mut script = Script::default();
        script.open(0, false);
        let mut skip = [0_u64; 2];
        for (from_server, bytes) in talk {
            let position = script.position(0, *from_server);
            let left_out = skip[usize::from(*from_server)].saturating_sub(position).min(bytes.len() as u64);
            script.positions.insert((0, *from_server), position + left_out);
            script.say(0, &[(*from_server, bytes[left_out as usize..].to_vec())]);
            let fed = self.feed(&mut instance, &std::mem::take(&mut script.batch), |id| id == 0)?;
            for (_, from_server, kind, position) in fed.demands {
                let side = &mut skip[usize::from(from_server)];
                match kind {
                    DemandKind::Skip => *side = position.max(*side),
                    DemandKind::Ignore => skip = [u64::MAX; 2],
                    DemandKind::Detect => return Ok(()),
                }
            }
        }
        script.push(0, true, Entry::End);
        script.push(0, false, Entry::End);
        script.push(0, false, Entry::Closed(0));
        self.feed(&mut instance, &script.batch, |id| id == 0).map(drop)
    }

    fn demands(&self) -> Result<(), String> {
        self.talks.iter().try_for_each(|talk| self.with_demands(talk))
    }

    fn demand_beyond_end(&self) -> Result<(), String> {
        let cut = |talk: &Talk| (1..talk.len().min(8)).try_for_each(|steps| self.with_demands(&talk[..steps]));
        self.talks.iter().try_for_each(cut)
    }

    fn large_batch(&self) -> Result<(), String> {
        for talk in &self.talks {
            let mut script = Script::default();
            script.open(0, false);
            while script.batch.len() < self.batch_entries && script.batch.data_len() < self.batch_bytes {
                script.say(0, talk);
                if talk.is_empty() {
                    break;
                }
            }
            self.feed(&mut self.instance()?, &script.batch, |id| id == 0)?;
        }
        Ok(())
    }
}

/// A batch that is being written, with its time and positions.
#[derive(Default)]
struct Script {
    batch: Batch,
    now_ns: u64,
    positions: std::collections::HashMap<(u32, bool), u64>,
}

impl Script {
    fn open(&mut self, id: u32, midstream: bool) {
        let end = |last, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port };
        self.batch.open(id, end(1, 49152), end(2, 7), midstream);
        self.positions.retain(|(of, _), _| *of != id);
    }

    fn position(&self, id: u32, from_server: bool) -> u64 {
        self.positions.get(&(id, from_server)).copied().unwrap_or(0)
    }

    fn push(&mut self, id: u32, from_server: bool, entry: Entry<'_>) {
        self.now_ns += 1_000_000;
        let position = self.position(id, from_server);
        let time_ns = START_NS + self.now_ns;
        self.batch.push(Place { connection: id, from_server, time_ns, position }, entry);
        let length = match entry {
            Entry::Data(bytes) => bytes.len() as u64,
            Entry::Gap(length) => length,
            Entry::End | Entry::Cut | Entry::Closed(_) => 0,
        };
        self.positions.insert((id, from_server), position + length);
    }

    fn say(&mut self, id: u32, talk: &[(bool, Vec<u8>)]) {
        for (from_server, bytes) in talk.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            self.push(id, *from_server, Entry::Data(bytes));
        }
    }

    fn every_kind(&mut self, id: u32, talk: &Talk) {
        for (step, (from_server, bytes)) in talk.iter().enumerate() {
            if step % 3 == 2 {
                // More than a column holds, once.
                self.push(id, *from_server, Entry::Gap(if step == 5 { 5 << 30 } else { bytes.len() as u64 + 1 }));
            } else {
                self.say(id, &[(*from_server, bytes.clone())]);
            }
        }
        self.push(id, true, Entry::Cut);
        self.push(id, false, Entry::End);
    }
}
