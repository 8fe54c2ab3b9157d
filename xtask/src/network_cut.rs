//! A network that can be cut: a namespace with a program in it, and a veth pair between that and this machine.
//!
//! Cut, this machine's end is down. What either side sends from then on is gone without an answer, as when a cable is
//! pulled or a node is lost: no connection is closed, and nobody is told.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::{process, release};

/// See the module. Removed when dropped.
pub(crate) struct Network {
    namespace: String,
    /// This machine's end.
    interface: String,
    /// This machine, as the namespace sees it.
    pub(crate) address: String,
}

impl Network {
    /// Makes it; as root.
    pub(crate) fn make() -> Result<Network> {
        let number = std::process::id();
        // RFC 2544 has this range for tests between two machines: nobody has it on a network of theirs.
        let net = format!("198.18.{}", number % 256);
        let network = Network {
            namespace: format!("podtap-{number}-cut"),
            interface: format!("podtap{number}"),
            address: format!("{net}.1"),
        };
        let (namespace, interface) = (network.namespace.as_str(), network.interface.as_str());
        process::output(ip().args(["netns", "add", namespace]))?;
        process::output(
            ip().args(["link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", namespace]),
        )?;
        process::output(ip().args(["addr", "add", &format!("{net}.1/30"), "dev", interface]))?;
        process::output(ip().args(["-n", namespace, "addr", "add", &format!("{net}.2/30"), "dev", "eth0"]))?;
        process::output(ip().args(["-n", namespace, "link", "set", "lo", "up"]))?;
        process::output(ip().args(["-n", namespace, "link", "set", "eth0", "up"]))?;
        network.mend()?;
        Ok(network)
    }

    /// Nothing gets through from now on.
    pub(crate) fn cut(&self) -> Result<()> {
        process::output(ip().args(["link", "set", &self.interface, "down"])).map(drop)
    }

    /// It works again.
    pub(crate) fn mend(&self) -> Result<()> {
        process::output(ip().args(["link", "set", &self.interface, "up"])).map(drop)
    }

    /// A command that becomes `program`, podtap, in the namespace, under the same process number.
    pub(crate) fn within(&self, program: &Path) -> Command {
        let mut command = release::command(ip().get_program());
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The pair goes with either end.
        let _ = process::captured(ip().args(["link", "del", &self.interface]));
        let _ = process::captured(ip().args(["netns", "del", &self.namespace]));
    }
}

fn ip() -> Command {
    Command::new(process::find("ip").unwrap_or_else(|| "ip".into()))
}
