//! Machines of a test's own: network namespaces with a bridge between them, where the system lets us make
//! some. One that is cut off keeps its connections, which say nothing more.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// How the names of all that is made here begin. The process id stands behind it.
const PREFIX: &str = "fl";

/// The networks that are tried, of 10.77.0.0/16: other tests have some, too.
const SUBNETS: std::ops::Range<u8> = 1..250;

/// A network on this machine that leads nowhere else.
pub struct Network {
    bridge: String,
    subnet: u8,
    machines: AtomicU8,
}

/// A network namespace in it.
pub struct Machine {
    namespace: String,
    port: String,
    bridge: String,
    address: Ipv4Addr,
}

fn ip(args: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn said(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

impl Network {
    /// A network, where this process may make one.
    #[must_use]
    pub fn new() -> Option<Self> {
        sweep();
        let id = std::process::id();
        SUBNETS.clone().find_map(|subnet| {
            let route = format!("10.77.{subnet}.0/24");
            if !said(&["-4", "route", "show", &route]).trim().is_empty() {
                return None;
            }
            let network = Self {
                bridge: format!("{PREFIX}{id}b{subnet}"),
                subnet,
                machines: AtomicU8::new(1),
            };
            let address = format!("{}/24", network.address());
            let made = ip(&["link", "add", &network.bridge, "type", "bridge"])
                && ip(&["addr", "add", &address, "dev", &network.bridge])
                && ip(&["link", "set", &network.bridge, "up"]);
            made.then_some(network)
        })
    }

    /// The address of this machine in it.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.subnet, 1)
    }

    /// One more machine.
    ///
    /// # Panics
    /// When it cannot be made although the network could.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let number = self.machines.fetch_add(1, Ordering::Relaxed) + 1;
        let address = Ipv4Addr::new(10, 77, self.subnet, number);
        let id = std::process::id();
        let machine = Machine {
            namespace: format!("{PREFIX}{id}s{}n{number}", self.subnet),
            port: format!("{PREFIX}{id}p{}", u16::from(self.subnet) * 256 + u16::from(number)),
            bridge: self.bridge.clone(),
            address,
        };
        let (space, port) = (&*machine.namespace, &*machine.port);
        let with_prefix = format!("{address}/24");
        let made = ip(&["netns", "add", space])
            && ip(&["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space])
            && ip(&["link", "set", port, "master", &self.bridge, "up"])
            && ip(&["-n", space, "addr", "add", &with_prefix, "dev", "eth0"])
            && ip(&["-n", space, "link", "set", "eth0", "up"])
            && ip(&["-n", space, "link", "set", "lo", "up"]);
        assert!(made, "the network namespace {space} cannot be made");
        machine
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["link", "delete", &self.bridge]);
    }
}

impl Machine {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// What a command begins with that runs on it. Its processes have the ids that they would have here.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.namespace)]
    }

    /// Cuts it off, so that nobody is told: what is open stays open.
    pub fn cut_off(&self) {
        ip(&["link", "set", &self.port, "nomaster"]);
    }

    /// Connects it again.
    pub fn connect(&self) {
        ip(&["link", "set", &self.port, "master", &self.bridge]);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.namespace]);
        ip(&["link", "delete", &self.port]);
    }
}

/// Removes what processes left that were killed.
fn sweep() {
    let gone = |name: &str| {
        let digits = name.strip_prefix(PREFIX)?;
        let id = &digits[..digits.find(|c: char| !c.is_ascii_digit())?];
        let lives = std::path::Path::new("/proc").join(id).exists();
        (!id.is_empty() && !lives).then(|| name.to_owned())
    };
    for line in said(&["netns", "list"]).lines() {
        if let Some(name) = line.split(' ').next().and_then(gone) {
            ip(&["netns", "delete", &name]);
        }
    }
    for line in said(&["-o", "link", "show", "type", "bridge"]).lines() {
        let name = line.split(": ").nth(1).map(|name| name.split('@').next().unwrap_or(name));
        if let Some(name) = name.and_then(gone) {
            ip(&["link", "delete", &name]);
        }
    }
}
