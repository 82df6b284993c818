//! What the rules look at: the file, its stages, the commands of each instruction.

use std::ops::Range;

use crate::config::Config;
use crate::context::Context;
use crate::dockerfile::{Dockerfile, Instruction, Keyword, Word, variables};
use crate::finding::Draft;
use crate::rule::Rule;
use crate::shell::{self, Command};

/// A stage: a `FROM` and what follows it.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The number of its `FROM` among the instructions.
    pub(crate) from: usize,
    /// The instructions behind it.
    pub(crate) body: Range<usize>,
    pub(crate) image: Word,
    pub(crate) name: Option<Word>,
    /// The stage that it is built from.
    pub(crate) parent: Option<usize>,
}

/// An instruction with the commands in it.
pub(crate) struct Step<'a> {
    pub(crate) instruction: &'a Instruction,
    pub(crate) commands: Vec<Command>,
    /// The stage it is in; none before the first `FROM`.
    pub(crate) stage: Option<usize>,
}

/// Where rules put what they find.
#[derive(Default)]
pub(crate) struct Out {
    pub(crate) drafts: Vec<Draft>,
}

impl Out {
    /// Adds a finding about `instruction`, at `span`.
    pub(crate) fn tell(
        &mut self,
        rule: &'static Rule,
        instruction: &Instruction,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Draft {
        self.add(rule, span, instruction.line, message)
    }

    /// Adds a finding at `span`, which a comment above `line` ignores.
    pub(crate) fn add(
        &mut self,
        rule: &'static Rule,
        span: Range<usize>,
        line: usize,
        message: impl Into<String>,
    ) -> &mut Draft {
        let message = message.into();
        let at = self.drafts.len();
        self.drafts.push(Draft { rule, span, message, help: None, fix: None, line });
        &mut self.drafts[at]
    }
}

impl Step<'_> {
    /// The line on which it begins.
    pub(crate) const fn line(&self) -> usize {
        self.instruction.line
    }
}

/// The file as rules see it.
pub(crate) struct Analysis<'a> {
    pub(crate) text: &'a str,
    pub(crate) file: &'a Dockerfile,
    pub(crate) steps: Vec<Step<'a>>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) config: &'a Config,
    pub(crate) context: Option<&'a Context>,
}

impl<'a> Analysis<'a> {
    pub(crate) fn new(
        text: &'a str,
        file: &'a Dockerfile,
        config: &'a Config,
        context: Option<&'a Context>,
    ) -> Self {
        let mut stages: Vec<Stage> = Vec::new();
        let mut steps = Vec::with_capacity(file.instructions.len());
        for (index, instruction) in file.instructions.iter().enumerate() {
            if instruction.keyword == Keyword::From && !instruction.onbuild {
                let words = instruction.words();
                if let Some(image) = words.first().cloned() {
                    let name = words.get(2).cloned();
                    let parent = stages.iter().rposition(|stage| stage.is_called(&image.value));
                    stages.push(Stage {
                        from: index,
                        body: index + 1..index + 1,
                        image,
                        name,
                        parent,
                    });
                }
            }
            if let Some(stage) = stages.last_mut() {
                stage.body.end = index + 1;
            }
            let commands = match instruction.keyword {
                Keyword::Run | Keyword::Cmd | Keyword::Entrypoint | Keyword::Healthcheck => {
                    shell::commands(instruction, text)
                }
                Keyword::Add
                | Keyword::Arg
                | Keyword::Copy
                | Keyword::Env
                | Keyword::Expose
                | Keyword::From
                | Keyword::Label
                | Keyword::Maintainer
                | Keyword::Onbuild
                | Keyword::Shell
                | Keyword::Stopsignal
                | Keyword::User
                | Keyword::Volume
                | Keyword::Workdir
                | Keyword::Unknown => Vec::new(),
            };
            steps.push(Step { instruction, commands, stage: stages.len().checked_sub(1) });
        }
        Self { text, file, steps, stages, config, context }
    }

    /// The instructions with this keyword, with their numbers; those behind `ONBUILD` among them.
    pub(crate) fn with(
        &self,
        keyword: Keyword,
    ) -> impl Iterator<Item = (usize, &'a Instruction)> + use<'a, '_> {
        let found = self.steps.iter().enumerate();
        found
            .filter(move |(_, step)| step.instruction.keyword == keyword)
            .map(|(index, step)| (index, step.instruction))
    }

    /// The `RUN`s, with their numbers.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, &Step<'a>)> {
        let found = self.steps.iter().enumerate();
        found.filter(|(_, step)| step.instruction.keyword == Keyword::Run)
    }

    /// Whether the layers of a stage are in the image that the file makes.
    pub(crate) fn ships(&self, stage: Option<usize>) -> bool {
        let (Some(stage), Some(mut at)) = (stage, self.stages.len().checked_sub(1)) else {
            return false;
        };
        loop {
            if at == stage {
                return true;
            }
            match self.stages[at].parent {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// The instructions of a stage that an image is built with: those behind `ONBUILD` left out.
    pub(crate) fn own(&self, stage: usize) -> impl DoubleEndedIterator<Item = (usize, &Step<'a>)> {
        let range = self.stages[stage].body.clone();
        range.map(|index| (index, &self.steps[index])).filter(|(_, s)| !s.instruction.onbuild)
    }

    /// The instructions of a stage and, first, of those it is built from.
    pub(crate) fn lineage(&self, stage: usize) -> Vec<usize> {
        let mut line = vec![stage];
        // A parent always comes before its child, so this ends.
        while let Some(parent) = line.last().and_then(|last| self.stages[*last].parent) {
            line.push(parent);
        }
        let stages = line.into_iter().rev();
        stages.flat_map(|stage| self.stages[stage].body.clone()).collect()
    }

    /// What the `ENV`s of a stage and of those it is built from set.
    pub(crate) fn environment(&self, stage: Option<usize>) -> Vec<(String, String)> {
        let all = stage.map(|stage| self.lineage(stage)).unwrap_or_default();
        all.into_iter()
            .map(|index| self.steps[index].instruction)
            .filter(|instruction| instruction.keyword == Keyword::Env && !instruction.onbuild)
            .flat_map(Instruction::pairs)
            .map(|pair| (pair.name.value, pair.value.map(|v| v.value).unwrap_or_default()))
            .collect()
    }

    /// The last image of the stages that `stage` is built from: what the registry is asked for.
    pub(crate) fn base(&self, stage: usize) -> &Word {
        let mut at = stage;
        while let Some(parent) = self.stages[at].parent {
            at = parent;
        }
        &self.stages[at].image
    }

    /// The stage with this name or number, among those before `before`.
    pub(crate) fn stage(&self, name: &str, before: usize) -> Option<usize> {
        let before = before.min(self.stages.len());
        let named = self.stages[..before].iter().rposition(|stage| stage.is_called(name));
        named.or_else(|| name.parse().ok().filter(|number| *number < before))
    }

    /// The value that `ARG`s before the first `FROM` give to the variables in `raw`; nothing when one
    /// has none.
    pub(crate) fn with_global_args(&self, word: &Word) -> Option<String> {
        let escape = self.file.escape.unwrap_or('\\');
        let mut value = word.value.clone();
        let mut found = variables(&value, escape);
        found.sort_by_key(|(_, _, range)| std::cmp::Reverse(range.start));
        for (name, _, range) in found {
            let given = self
                .steps
                .iter()
                .take_while(|step| step.stage.is_none())
                .filter(|step| step.instruction.keyword == Keyword::Arg)
                .flat_map(|step| step.instruction.pairs())
                .find(|pair| pair.name.value == name)?;
            let given = given.value?.value;
            // The whole `${NAME…}` is replaced.
            let end = match value[range.start..].strip_prefix("${") {
                Some(rest) => range.start + 2 + rest.find('}')? + 1,
                None => range.end,
            };
            value.replace_range(range.start..end, &given);
        }
        (!value.contains('$')).then_some(value)
    }
}

impl Stage {
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.value.eq_ignore_ascii_case(name))
    }
}

/// A name of an image in its parts: registry and repository, tag, digest.
pub(crate) struct ImageName<'a> {
    /// As it is written, `docker.io` where it has none.
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) tag: Option<&'a str>,
    pub(crate) digest: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match name[slash..].find(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            Some(_) | None => ("docker.io", path),
        };
        Self { registry, repository, tag, digest }
    }

    /// The last part of the repository: `golang` of `library/golang`.
    pub(crate) fn short(&self) -> &'a str {
        self.repository.rsplit('/').next().unwrap_or(self.repository)
    }
}
