//! How much one address may ask, and how often it may be wrong. What is kept is bounded: under an attack
//! from everywhere the addresses that were quiet longest are forgotten first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most addresses that are known at a time: about 1 MB.
const MOST: usize = 10_000;

/// What one address may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many requests to the API a second, for long.
    pub requests: u32,
    /// How many at once.
    pub burst: u32,
    /// How many times within a minute it may show something that is no proof, before it has to wait.
    pub failures: u32,
    /// For how long it then has to wait.
    pub lockout: Duration,
    /// Whether that is asked of this machine itself, too. A proxy on it speaks for many.
    pub local: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 200,
            burst: 1000,
            failures: 30,
            lockout: Duration::from_secs(60),
            local: false,
        }
    }
}

/// The time over which failures are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// It has to wait for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) wait: Duration,
}

/// What is known of an address.
struct Known {
    /// How many requests it may make at once.
    left: f64,
    at: Instant,
    failures: u32,
    since: Instant,
    locked: Option<Instant>,
}

/// What is known of each address.
pub(crate) struct Rates {
    limits: Limits,
    known: Mutex<HashMap<IpAddr, Known>>,
}

impl Rates {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one request of `address`, unless it has made too many or was wrong too often.
    pub(crate) fn request(&self, address: IpAddr) -> Result<(), TooMany> {
        if self.is_free(address) {
            return Ok(());
        }
        self.on(address, |known, limits| known.take(limits, true))
    }

    /// Whether `address` may ask at all. It costs it nothing.
    pub(crate) fn look(&self, address: IpAddr) -> Result<(), TooMany> {
        if self.is_free(address) {
            return Ok(());
        }
        self.on(address, |known, limits| known.take(limits, false))
    }

    /// Takes a request away from what `address` may ask.
    pub(crate) fn charge(&self, address: IpAddr) {
        self.on(address, |known, _| known.left = (known.left - 1.0).max(0.0));
    }

    /// `address` has shown something that is no proof.
    pub(crate) fn failed(&self, address: IpAddr) {
        self.on(address, |known, limits| {
            if known.at - known.since > MINUTE {
                (known.failures, known.since) = (0, known.at);
            }
            known.failures += 1;
            if known.failures >= limits.failures {
                known.locked = Some(known.at + limits.lockout);
            }
        });
    }

    fn is_free(&self, address: IpAddr) -> bool {
        address.is_loopback() && !self.limits.local
    }

    fn on<T>(&self, address: IpAddr, work: impl FnOnce(&mut Known, Limits) -> T) -> T {
        let (now, limits) = (Instant::now(), self.limits);
        let burst = f64::from(limits.burst);
        let mut all = self.known();
        let network = network(address);
        if all.len() >= MOST && !all.contains_key(&network) {
            forget(&mut all);
        }
        let fresh = || Known { left: burst, at: now, failures: 0, since: now, locked: None };
        let known = all.entry(network).or_insert_with(fresh);
        let passed = (now - known.at).as_secs_f64();
        known.left = (known.left + passed * f64::from(limits.requests)).min(burst);
        known.at = now;
        if known.locked.is_some_and(|until| until <= now) {
            (known.locked, known.failures, known.since) = (None, 0, now);
        }
        work(known, limits)
    }
}

impl Known {
    fn take(&mut self, limits: Limits, pays: bool) -> Result<(), TooMany> {
        if let Some(until) = self.locked {
            return Err(TooMany { wait: until - self.at });
        }
        if self.left < 1.0 {
            let wait = (1.0 - self.left) / f64::from(limits.requests.max(1));
            return Err(TooMany { wait: Duration::from_secs_f64(wait) });
        }
        if pays {
            self.left -= 1.0;
        }
        Ok(())
    }
}

/// What one customer of a provider has: a single address, or a network of the newer kind.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Forgets the quarter that was quiet longest, and who is locked out last.
fn forget(all: &mut HashMap<IpAddr, Known>) {
    let mut ages: Vec<_> = all.values().map(|known| (known.locked.is_some(), known.at)).collect();
    ages.sort_unstable();
    let Some(bound) = ages.get(ages.len() / 4).copied() else { return };
    all.retain(|_, known| (known.locked.is_some(), known.at) > bound);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        requests: 10,
        burst: 5,
        failures: 3,
        lockout: Duration::from_secs(60),
        local: false,
    };

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_asks_too_much_waits_and_others_do_not() {
        let rates = Rates::new(LIMITS);
        assert!((0..5).all(|_| rates.request(address(1)).is_ok()));
        let wait = rates.request(address(1)).unwrap_err().wait;
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(rates.request(address(2)).is_ok());
        tokio::time::advance(Duration::from_millis(101)).await;
        assert!(rates.request(address(1)).is_ok() && rates.request(address(1)).is_err());
        rates.charge(address(3));
        assert!((0..4).all(|_| rates.request(address(3)).is_ok()));
        assert!(rates.look(address(3)).is_err());
        let here = [127, 0, 0, 1].into();
        assert!((0..20).all(|_| rates.request(here).is_ok()), "a proxy speaks for many");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_wrong_too_often_is_locked_out_for_a_while() {
        let rates = Rates::new(LIMITS);
        rates.failed(address(1));
        rates.failed(address(1));
        assert!(rates.look(address(1)).is_ok());
        // Now and again is no attack.
        tokio::time::advance(MINUTE * 2).await;
        rates.failed(address(1));
        assert!(rates.look(address(1)).is_ok());
        rates.failed(address(1));
        rates.failed(address(1));
        assert_eq!(rates.request(address(1)), Err(TooMany { wait: Duration::from_secs(60) }));
        assert!(rates.request(address(2)).is_ok());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(rates.request(address(1)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let rates = Rates::new(LIMITS);
        (0..3).for_each(|_| rates.failed(address(1)));
        for n in 0..3 * MOST {
            let [.., b, c, d] = u32::try_from(n).unwrap().to_be_bytes();
            tokio::time::advance(Duration::from_micros(1)).await;
            let _ = rates.request([10, b, c, d].into());
        }
        assert!(rates.known().len() <= MOST);
        assert!(rates.look(address(1)).is_err(), "who is locked out stays so");
        // Of IPv6 everybody has more addresses than fit.
        let v6 = |text: &str| network(text.parse().unwrap());
        assert_eq!(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff::1"));
        assert_ne!(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1"));
        assert_eq!(v6("::ffff:192.0.2.1"), address(1));
    }
}
