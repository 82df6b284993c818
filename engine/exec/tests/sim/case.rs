//! What is simulated: pipelines, runs and trouble, all drawn from a seed, and all of it data that can
//! be made smaller.

use std::fmt;

use crate::rng::Rng;

/// One case.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    /// How many runs of the store may go on at a time.
    pub(crate) max_runs: Option<u32>,
    pub(crate) pipelines: Vec<Pipeline>,
    pub(crate) runs: Vec<Asked>,
    pub(crate) trouble: Trouble,
}

/// A run, asked for at a time (milliseconds).
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) pipeline: usize,
    pub(crate) at: u64,
    /// Whether it is asked for again, from its middle, once it has ended.
    pub(crate) retried: bool,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    /// Servers end at any moment, and come back.
    pub(crate) crashes: bool,
    /// Appends fail, before or after they were written.
    pub(crate) appends: bool,
    /// Leases end although their holder lives; it is told, or sleeps and learns it when it writes.
    pub(crate) steals: bool,
    /// The store does not answer for a while.
    pub(crate) outages: bool,
    /// The store does not answer one server for a while, neither yes nor no, and so does not renew its
    /// leases; the others go on.
    pub(crate) hangs: bool,
    /// Hints do not arrive.
    pub(crate) deaf: bool,
    /// The clocks of servers jump.
    pub(crate) clocks: bool,
    /// People cancel runs.
    pub(crate) cancels: bool,
    /// People vote twice, too late, and without the right to.
    pub(crate) bad_votes: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    pub(crate) group: Option<(&'static str, u64)>,
    pub(crate) timeout: bool,
    pub(crate) steps: Vec<Step>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    OnFailure,
    Finally,
}

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) part: Part,
    pub(crate) what: What,
    /// The steps it needs, and how they must have ended.
    pub(crate) needs: Vec<(String, &'static str)>,
    pub(crate) when: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Approval { from: &'static str, rest: &'static str },
    Wait(&'static str),
    Kind(Kind),
}

#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) uses: &'static str,
    /// What its attempts do, a letter each: see `steps.rs`.
    pub(crate) script: String,
    pub(crate) retry: Option<(u64, &'static str)>,
    pub(crate) timeout: bool,
    /// A list, and how many at a time.
    pub(crate) each: Option<(Each, Option<u64>)>,
    pub(crate) asks: bool,
    pub(crate) cache: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Each {
    Written(u64),
    /// The output `list` of a step that passed.
    Of(String),
}

impl Case {
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let rng = &mut rng;
        let pipelines: Vec<Pipeline> =
            (0..1 + rng.below(2)).map(|_| Pipeline::random(rng)).collect();
        let runs = (0..1 + rng.below(5))
            .map(|_| Asked {
                pipeline: usize::try_from(rng.below(pipelines.len() as u64)).expect("an index"),
                at: rng.below(12_000),
                retried: rng.one_in(5),
            })
            .collect();
        let calm = rng.one_in(8);
        let mut trouble = Trouble {
            crashes: !calm && rng.one_in(2),
            appends: !calm && rng.one_in(2),
            steals: !calm && rng.one_in(3),
            outages: !calm && rng.one_in(4),
            hangs: false,
            deaf: !calm && rng.one_in(3),
            clocks: !calm && rng.one_in(4),
            cancels: rng.one_in(4),
            bad_votes: rng.one_in(2),
        };
        let servers = 1 + usize::try_from(rng.below(3)).expect("a few");
        let max_runs = rng.one_in(4).then(|| 1 + u32::try_from(rng.below(3)).expect("a few"));
        trouble.hangs = !calm && servers > 1 && rng.one_in(3);
        Self { seed, servers, max_runs, pipelines, runs, trouble }
    }

    /// Whether every pipeline has a main step, without which there is none.
    pub(crate) fn compiles(&self) -> bool {
        let main = |pipeline: &Pipeline| pipeline.steps.iter().any(|step| step.part == Part::Main);
        self.pipelines.iter().all(main)
    }
}

impl Pipeline {
    fn random(rng: &mut Rng) -> Self {
        let policies = ["queue", "supersede", "cancel-running", "reject"];
        let group = rng.one_in(2).then(|| (*rng.pick(&policies), 1 + rng.below(3)));
        let mut steps = Vec::new();
        let parts = [
            (Part::Main, 1 + rng.below(6)),
            (Part::OnFailure, rng.below(5) / 3),
            (Part::Finally, rng.below(5) / 3),
        ];
        for (part, count) in parts {
            for _ in 0..count {
                let step = Step::random(rng, part, &steps);
                steps.push(step);
            }
        }
        Self { group, timeout: rng.one_in(8), steps }
    }
}

impl Step {
    fn random(rng: &mut Rng, part: Part, before: &[Self]) -> Self {
        let id = format!("s{}", before.len());
        let mut needs = Vec::new();
        for earlier in before.iter().filter(|step| step.part == part) {
            if rng.one_in(3) {
                let how = *rng.pick(&[
                    "[passed]",
                    "[passed]",
                    "[passed, skipped]",
                    "[passed, rejected]",
                    "[failed, rejected]",
                    "[passed, failed, rejected, skipped, cancelled]",
                ]);
                needs.push((earlier.id.clone(), how));
            }
        }
        let what = match (part, rng.below(10)) {
            (Part::Main, 0) => What::Approval {
                from: rng.word(&["[ann]", "[qa]", "[ann, qa]", "[ann, bob, cat]"]),
                rest: rng.word(&[
                    "",
                    ", expires: 20s",
                    ", not: [requester]",
                    ", not: [approvers]",
                    ", order: sequential",
                ]),
            },
            (Part::Main, 1) => What::Wait(rng.word(&["2s", "15s", "40s"])),
            _ => What::Kind(Kind::random(rng, before, &needs)),
        };
        let when = rng.one_in(6).then(|| *rng.pick(&["'true'", "'false'", "params.yes"]));
        Self { id, part, what, needs, when }
    }
}

impl Kind {
    fn random(rng: &mut Rng, before: &[Step], needs: &[(String, &'static str)]) -> Self {
        let uses = *rng.pick(&["pure", "idem", "check", "once"]);
        let timeout = rng.one_in(6) && uses != "once";
        let asks = rng.one_in(8);
        let mut script = String::new();
        for _ in 0..rng.below(3) {
            let trouble: &[char] =
                if asks { &['r', 'r', 'f'] } else { &['f', 'f', 't', 'r', 's', 'x'] };
            script.push(*rng.pick(trouble));
        }
        if timeout && rng.one_in(2) {
            script.push('h');
        }
        script.push(if rng.one_in(12) { 't' } else { 'p' });
        let lists = needs.iter().filter(|(_, how)| *how == "[passed]").filter(|(id, _)| {
            let kind = before.iter().find(|step| step.id == *id).map(|step| &step.what);
            matches!(kind, Some(What::Kind(Kind { each: None, .. })))
        });
        let lists: Vec<&String> = lists.map(|(id, _)| id).collect();
        let each = rng.one_in(5).then(|| {
            let list = match lists.first() {
                Some(id) if rng.one_in(2) => Each::Of((*id).clone()),
                Some(_) | None => Each::Written(1 + rng.below(4)),
            };
            (list, rng.one_in(2).then(|| 1 + rng.below(2)))
        });
        let retry = rng.one_in(2).then(|| {
            let on: &[&str] =
                if uses == "once" { &["infra"] } else { &["infra", "timeout", "any"] };
            (1 + rng.below(3), *rng.pick(on))
        });
        let cache = uses == "pure" && rng.one_in(2);
        Self { uses, script, retry, timeout, each, asks, cache }
    }
}

impl Pipeline {
    /// The file. Needs of steps that were left out are left out, too.
    pub(crate) fn yaml(&self, name: &str) -> String {
        let mut text = format!("apiVersion: fairlead.dev/v1\nkind: Pipeline\nname: {name}\n");
        text.push_str("params: {yes: {type: boolean, default: true}}\n");
        if let Some((policy, max)) = self.group {
            text.push_str(&format!("concurrency: {{group: g, policy: {policy}, max: {max}}}\n"));
        }
        if self.timeout {
            text.push_str("timeout: 25s\n");
        }
        for (part, key) in
            [(Part::Main, "steps"), (Part::OnFailure, "on_failure"), (Part::Finally, "finally")]
        {
            let mut steps = self.steps.iter().filter(|step| step.part == part).peekable();
            if steps.peek().is_some() {
                text.push_str(&format!("{key}:\n"));
            }
            for step in steps {
                text.push_str(&format!("  {}: {{{}}}\n", step.id, self.fields(step)));
            }
        }
        text
    }

    fn fields(&self, step: &Step) -> String {
        let there = |id: &String| self.steps.iter().any(|step| step.id == *id);
        let needs: Vec<String> = step
            .needs
            .iter()
            .filter(|(id, _)| there(id))
            .map(|(id, how)| format!("{id}: {how}"))
            .collect();
        let mut fields = vec![match &step.what {
            What::Approval { from, rest } => format!("approval: {{from: {from}{rest}}}"),
            What::Wait(time) => format!("wait: {{for: {time}}}"),
            What::Kind(kind) => {
                let item = if kind.each.is_some() { " {{ item }}" } else { "" };
                format!(
                    "uses: {}, with: {{script: {}, text: \"{}{item}\"}}",
                    kind.uses, kind.script, step.id
                )
            }
        }];
        if let What::Kind(kind) = &step.what {
            if let Some((max, on)) = kind.retry {
                fields.push(format!("retry: {{max: {max}, backoff: 1s..4s, on: {on}}}"));
            }
            if kind.timeout {
                fields.push("timeout: 4s".to_owned());
            }
            if kind.asks {
                fields.push("wait: {deadline: 20s, every: 3s}".to_owned());
            }
            if kind.cache {
                fields.push("cache: true".to_owned());
            }
            if let Some((each, most)) = &kind.each {
                let list = match each {
                    Each::Of(id) if there(id) => format!("\"{{{{ steps.{id}.list }}}}\""),
                    Each::Of(_) => "[a, b]".to_owned(),
                    Each::Written(count) => {
                        let items: Vec<String> = (0..*count).map(|n| format!("i{n}")).collect();
                        format!("[{}]", items.join(", "))
                    }
                };
                let most = most.map_or(String::new(), |most| format!(", max_parallel: {most}"));
                fields.push(format!("for_each: {{items: {list}{most}}}"));
            }
        }
        if !needs.is_empty() {
            fields.push(format!("needs: {{{}}}", needs.join(", ")));
        }
        fields.extend(step.when.map(|when| format!("when: {when}")));
        fields.join(", ")
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} servers, {:?} runs at a time, {:?}",
            self.servers, self.max_runs, self.trouble
        )?;
        for (n, pipeline) in self.pipelines.iter().enumerate() {
            writeln!(f, "{}", pipeline.yaml(&format!("p{n}")))?;
        }
        for (n, run) in self.runs.iter().enumerate() {
            let again = if run.retried { ", and made again" } else { "" };
            writeln!(f, "run {n}: p{} at {} ms{again}", run.pipeline, run.at)?;
        }
        Ok(())
    }
}
