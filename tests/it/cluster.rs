//! A cluster, and a seeded schedule of all that can happen to it: servers and runners are killed, stopped
//! past their leases and cut off without a word, NATS and Postgres restart, each event comes three times,
//! and runs are cancelled while their first attempt is claimed. Afterwards every event was handled, every
//! effect took place once, every run ended, and every line of a log is there, or a line says that it is not.
//!
//! `FAIRLEAD_CLUSTER_RUNS` and `FAIRLEAD_CLUSTER_SEED` ask for more than `make test` does.
#![expect(clippy::print_stdout, reason = "it says what it did to whom, and what was measured")]

mod check;
mod members;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use self::members::{Cluster, Errands, Shared, add};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(25);

/// The steps of each run, with what each needs and how many seconds it takes. Of `build` one in ten takes
/// longer than a lease: what a runner leaves behind would be seen beside the next attempt.
pub(crate) const STEPS: [(&str, &[&str], &str); 4] = [
    ("fetch", &[], "0"),
    ("build", &["fetch"], "1; case $RUN in *[048]) sleep 8;; esac"),
    ("check", &["fetch"], "0.3"),
    ("ship", &["build", "check"], "0.1"),
];

/// How many lines each step logs.
pub(crate) const LINES: u32 = 60;

/// A step looks whether its line is there before it writes it, as one must that may be made again. Two that
/// are made at the same time would both be seen in `overlaps`.
fn pipeline(traces: &Path) -> String {
    let mut yaml = "apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: chore\n\
                    on: {event: {type: com.example.chore}, manual: {}}\nsteps:\n"
        .to_owned();
    for (step, needs, seconds) in STEPS {
        let half = LINES / 2;
        let script = format!(
            "cd {}; exec 9>> lock.$RUN.{step}; flock -n 9 || echo $RUN {step} >> overlaps; \
             for n in $(seq 1 {half}); do echo line $n; done; sleep {seconds}; \
             grep -qx \"$RUN {step}\" done || echo $RUN {step} >> done; \
             for n in $(seq {} {LINES}); do echo line $n; done",
            traces.display(),
            half + 1,
        );
        let with = serde_json::json!({ "program": "sh", "args": ["-c", script],
            "env": { "RUN": "{{ run.id }}" } });
        let needs = serde_json::json!(needs);
        let _ = writeln!(yaml, "  {step}: {{uses: command, needs: {needs}, with: {with}}}");
    }
    yaml
}

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.roll() % most as u64).unwrap()
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_millis()).unwrap().max(1);
        least + Duration::from_millis(self.roll() % span)
    }
}

/// What happens to somebody, until it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Stopped,
    CutOff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    Server(usize),
    Runner(usize),
    Nats,
    Postgres,
}

struct Schedule {
    dice: Dice,
    /// What goes on, until when.
    going: Vec<(Whom, Fault, Instant)>,
    next: Instant,
    /// How many faults have begun.
    begun: usize,
    counts: [usize; 5],
}

/// How many of the cluster are at fault at a time, at most.
const AT_A_TIME: usize = 2;

impl Schedule {
    fn new(seed: u64) -> Self {
        let next = Instant::now() + Duration::from_secs(2);
        Self { dice: Dice(seed), going: Vec::new(), next, begun: 0, counts: [0; 5] }
    }

    /// Ends what is over, and begins something where it is time.
    fn go_on(&mut self, cluster: &mut Cluster, more: bool) {
        let now = Instant::now();
        let (over, going) = std::mem::take(&mut self.going).into_iter().partition(|it| it.2 <= now);
        self.going = going;
        let over: Vec<(Whom, Fault, Instant)> = over;
        for (whom, fault, _) in over {
            end(cluster, whom, fault);
        }
        if !more || now < self.next || self.going.len() >= AT_A_TIME {
            return;
        }
        let (least, most) = (Duration::from_millis(800), Duration::from_millis(4000));
        self.next = now + self.dice.between(least, most);
        self.begun += 1;
        let whom = match (self.begun % 10, self.dice.below(14)) {
            (3, _) => Whom::Nats,
            (7, _) => Whom::Postgres,
            (_, 0..=8) => Whom::Runner(self.dice.below(cluster.runners.len())),
            _ => Whom::Server(self.dice.below(cluster.servers.len())),
        };
        if self.going.iter().any(|(other, ..)| *other == whom) {
            return;
        }
        let fault = match self.dice.below(3) {
            0 => Fault::Killed,
            1 => Fault::Stopped,
            _ => Fault::CutOff,
        };
        // Some of it is over before a lease is, and some long after it.
        let (least, most) = match fault {
            Fault::Killed => (Duration::ZERO, Duration::from_secs(3)),
            Fault::Stopped | Fault::CutOff => (Duration::from_millis(500), Duration::from_secs(12)),
        };
        let until = now + self.dice.between(least, most);
        match (whom, fault) {
            (Whom::Nats, _) => {
                cluster.nats.cut();
                let until = now + self.dice.between(Duration::ZERO, Duration::from_secs(2));
                self.going.push((whom, Fault::Killed, until));
                self.counts[3] += 1;
            }
            (Whom::Postgres, _) => {
                cluster.postgres.pause();
                let until = now + self.dice.between(Duration::ZERO, Duration::from_secs(1));
                self.going.push((whom, Fault::Killed, until));
                self.counts[4] += 1;
            }
            (Whom::Server(at), fault) => {
                self.begin(&mut cluster.servers[at], (whom, fault, until));
            }
            (Whom::Runner(at), fault) => {
                self.begin(&mut cluster.runners[at], (whom, fault, until));
            }
        }
    }

    fn begin(&mut self, member: &mut members::Member, it: (Whom, Fault, Instant)) {
        match it.1 {
            Fault::Killed => member.kill(),
            Fault::Stopped => member.stop(),
            Fault::CutOff if member.cut_off() => {}
            Fault::CutOff => return,
        }
        self.counts[it.1 as usize] += 1;
        self.going.push(it);
    }
}

fn end(cluster: &mut Cluster, whom: Whom, fault: Fault) {
    let member = match whom {
        Whom::Nats => return cluster.nats.resume(),
        Whom::Postgres => return drop(cluster.postgres.resume()),
        Whom::Server(at) => &mut cluster.servers[at],
        Whom::Runner(at) => &mut cluster.runners[at],
    };
    match fault {
        Fault::Killed => member.lives_again(),
        Fault::Stopped => member.go_on(),
        Fault::CutOff => member.connect(),
    }
}

fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn whatever_happens_to_a_cluster_nothing_is_lost_and_nothing_is_done_twice() {
    let begin = Instant::now();
    let runs = usize::try_from(asked("FAIRLEAD_CLUSTER_RUNS", 200)).unwrap();
    let seed = asked("FAIRLEAD_CLUSTER_SEED", 20_261_129);
    let mut cluster = Cluster::start(pipeline);
    std::fs::write(cluster.traces.path().join("done"), "").unwrap();
    let (mut schedule, mut errands) = (Schedule::new(seed), Errands::default());
    let raced: Shared<String> = Shared::default();
    // One in ten is asked for by somebody who thinks better of it at once.
    let mut left: VecDeque<usize> = (0..runs).collect();
    let mut next_event = Instant::now();
    while let Some(&number) = left.front() {
        schedule.go_on(&mut cluster, true);
        if Instant::now() >= next_event {
            left.pop_front();
            next_event += schedule.dice.between(Duration::ZERO, Duration::from_millis(600));
            let api = cluster.api.clone();
            let first = schedule.dice.below(3);
            if number % 10 == 9 {
                let pause = schedule.dice.between(Duration::ZERO, Duration::from_millis(600));
                let raced = Shared::clone(&raced);
                errands.run(move || add(&raced, cancel_soon(&api, first, number, pause)));
            } else {
                for copy in 0..3 {
                    let api = api.clone();
                    errands.run(move || api.tell(first + copy, &event(number)));
                }
            }
        }
        std::thread::sleep(TICK);
    }
    // What is under way may still be hit.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        schedule.go_on(&mut cluster, true);
        std::thread::sleep(TICK);
    }
    while !schedule.going.is_empty() {
        schedule.go_on(&mut cluster, false);
        std::thread::sleep(TICK);
    }
    cluster.calm_down();
    errands.all_done();
    let [killed, stopped, cut_off, nats, postgres] = schedule.counts;
    println!(
        "seed {seed}: {killed} killed, {stopped} stopped, {cut_off} cut off, NATS restarted {nats} \
         times, Postgres {postgres} times, in {:?}",
        begin.elapsed()
    );
    check::all_of_it(&cluster, runs, &raced.lock().unwrap());
    println!("{runs} runs in {:?}", begin.elapsed());
}

fn event(number: usize) -> String {
    format!(
        r#"{{"specversion":"1.0","type":"com.example.chore","source":"/bench","id":"n{number}","data":{{}}}}"#
    )
}

/// Asks for a run and cancels it soon, perhaps while a runner claims its first attempt.
fn cancel_soon(api: &members::Api, first: usize, number: usize, pause: Duration) -> String {
    let key = format!("raced-{number}");
    let headers = [("Idempotency-Key", &*key)];
    let path = "/api/v1/pipelines/chore/runs";
    let answer = api.insist(first, "POST", path, &headers, "{}");
    assert!(answer.status < 300, "{}", answer.text());
    let started: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let run = started["run"].as_str().unwrap().to_owned();
    std::thread::sleep(pause);
    let answer = api.insist(first + 1, "POST", &format!("/api/v1/runs/{run}/cancel"), &[], "{}");
    // It may have ended before.
    assert!(answer.status < 300 || answer.status == 409, "{}", answer.text());
    run
}
