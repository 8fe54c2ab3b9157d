//! What podtap tells of itself over HTTP.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What podtap tells of itself over HTTP: metrics, health, its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port that are listened to, such as `127.0.0.1:19464`, or `0.0.0.0:19464` for Prometheus and the kubelet.
    /// Not set: nobody can ask. There is no TLS and no password: who reaches the port can read metrics and the
    /// configuration without its secrets. Paths: `/metrics` ([metrics.md](metrics.md)), `/healthz`, `/readyz`, `/config`,
    /// and where `admin.exchanges` is set, `/` and `/exchanges`.
    pub listen: Option<String>,
    /// How many combinations of protocol, server port and vantage have request metrics of their own; all others have them
    /// together, under `other`. 0: there are no request metrics.
    #[schemars(range(min = 0, max = 1000))]
    pub max_servers: u32,
    /// Whether traffic can be looked at as it goes by: with a browser at `/`, with `podtap top --agent`, and event by event
    /// at `/exchanges` and with `podtap tap`. Events are what is published, with addresses and paths in them: whoever
    /// reaches the port can then see all of them. While nobody looks, it costs nothing; a page
    /// that is looked at takes some megabytes.
    pub exchanges: bool,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { listen: None, max_servers: 64, exchanges: false }
    }
}

impl Admin {
    /// Where to listen, if anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.as_deref()?.parse().ok()
    }

    /// What is wrong with `admin.listen`.
    pub(super) fn listen_problem(&self) -> Option<String> {
        let listen = self.listen.as_deref()?;
        let wrong = listen.parse::<SocketAddr>().is_err();
        wrong.then(|| format!("{listen:?} is no address with a port: write it as 127.0.0.1:19464 or [::]:19464"))
    }
}
