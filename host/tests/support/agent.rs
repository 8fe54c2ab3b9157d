//! podtap that is running, and what it tells of itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// podtap that is running, with what it said so far.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) input: Option<ChildStdin>,
    /// Of its admin server.
    pub(crate) address: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Agent {
    /// Replays standard input, with settings from the environment.
    pub(crate) fn replay(arguments: &[&str], settings: &[(&str, &str)]) -> Agent {
        let arguments = [&["replay", "-", "--output", "none"], arguments].concat();
        Agent::start(Command::new(env!("CARGO_BIN_EXE_podtap")).args(arguments), settings)
    }

    pub(crate) fn start(command: &mut Command, settings: &[(&str, &str)]) -> Agent {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PODTAP_")) {
            command.env_remove(name);
        }
        let mut child = command
            .env("PODTAP_ADMIN_LISTEN", "127.0.0.1:0")
            .env("PODTAP_LOG_FORMAT", "json")
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, log) = (child.stdin.take(), BufReader::new(child.stderr.take().unwrap()));
        let mut agent = Agent { child, input, address: String::new(), log };
        let mut said = String::new();
        while agent.address.is_empty() {
            let mut line = String::new();
            assert!(agent.log.read_line(&mut line).unwrap() > 0, "podtap ended without listening:\n{said}");
            said.push_str(&line);
            let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            if line["message"] == "admin: listening" {
                line["address"].as_str().unwrap().clone_into(&mut agent.address);
            }
        }
        agent
    }

    /// Status, media type and body.
    pub(crate) fn get(&self, path: &str, accept: &str) -> (u16, String, String) {
        let url = format!("http://{}{path}", self.address);
        let config = ureq::config::Config::builder().http_status_as_error(false).build();
        let mut response = ureq::Agent::new_with_config(config).get(url).header("accept", accept).call().unwrap();
        let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (response.status().as_u16(), media_type, response.body_mut().read_to_string().unwrap())
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let (status, media_type, body) = self.get("/metrics", "*/*");
        assert_eq!((status, media_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        Metrics::parse(&body)
    }

    /// Metrics, once these hold.
    pub(crate) fn metrics_with(&self, hold: impl Fn(&Metrics) -> bool) -> Metrics {
        let since = Instant::now();
        loop {
            let metrics = self.metrics();
            if hold(&metrics) {
                return metrics;
            }
            assert!(since.elapsed() < Duration::from_secs(30), "it never came to that: {metrics:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// No more input; what podtap says until its end.
    pub(crate) fn finish(mut self) -> super::Run {
        self.end()
    }

    /// As [`Agent::finish`], where something else is left of it.
    pub(crate) fn end(&mut self) -> super::Run {
        drop(self.input.take());
        let mut stderr = String::new();
        self.log.read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        super::Run { code, stdout: String::new(), stderr, cpu: Duration::ZERO, memory_bytes: 0 }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sample's name with its labels as they are written, and its value.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn parse(page: &str) -> Metrics {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Metrics(samples.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line}"))).collect())
    }

    /// All samples of this name, added.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let of_name = |(sample, value): (&String, &f64)| (sample.split('{').next() == Some(name)).then_some(*value);
        self.0.iter().filter_map(of_name).sum()
    }

    pub(crate) fn get(&self, sample: &str) -> f64 {
        *self.0.get(sample).unwrap_or_else(|| panic!("there is no {sample} in {self:#?}"))
    }

    /// Is every packet and every byte in one place?
    pub(crate) fn add_up(&self) {
        let packets = self.sum("podtap_packets_by_fate_total") + self.sum("podtap_fragments_waiting");
        assert_eq!(self.sum("podtap_packets_total"), packets);
        let bytes = self.sum("podtap_payload_bytes_by_fate_total") + self.sum("podtap_payload_waiting_bytes");
        assert_eq!(self.sum("podtap_payload_bytes_total"), bytes);
        let [undetected, by_reason] =
            ["podtap_connections_undetected_total", "podtap_connections_undetected_by_reason_total"];
        assert_eq!(self.sum(undetected), self.sum(by_reason));
        assert_eq!(self.sum("podtap_exchanges_total"), self.sum("podtap_decoder_exchanges_total"));
        let [failures, by_reason] = ["podtap_decoder_failures_total", "podtap_decoder_failures_by_reason_total"];
        assert_eq!(self.sum(failures), self.sum(by_reason));
    }
}
