//! The rules, in the order of their codes. `00` is about the file, `01` about the base image, `04` about
//! `COPY` and `ADD`, `05` about stages, `06` about the configuration of the image, `07` about secrets,
//! `08` about labels, `09` about the context.

use super::Rule;
use super::Severity::{Error, Info, Off, Style, Warning};
pub(crate) use super::commands::*;

pub(crate) const SYNTAX: Rule = Rule::new(
    "FLD0001",
    "DL1000",
    Error,
    "the file cannot be built",
    "a builder refuses it",
    "mend what the finding names",
);
pub(crate) const ORDER: Rule = Rule::new(
    "FLD0002",
    "DL3061",
    Error,
    "an instruction before the first `FROM`",
    "only `ARG` may stand before the first `FROM`",
    "begin with `FROM`, and move the instruction behind it",
);
pub(crate) const KEYWORD_CASE: Rule = Rule::new(
    "FLD0003",
    "",
    Style,
    "a keyword that is not in capitals",
    "files are read, and searched, by their keywords",
    "write it in capitals",
)
.mending();
pub(crate) const OLD_PAIR: Rule = Rule::new(
    "FLD0004",
    "",
    Style,
    "`ENV` or `LABEL` without an `=`",
    "the form with a blank takes the whole rest of the line as the value, and is deprecated",
    "write `name=value`",
)
.mending();
pub(crate) const ONBUILD_NESTED: Rule = Rule::new(
    "FLD0005",
    "DL3043",
    Error,
    "`ONBUILD`, `FROM` or `MAINTAINER` behind `ONBUILD`",
    "the builder refuses it",
    "write the instruction into the images that are built from this one",
);
pub(crate) const PRAGMA: Rule = Rule::new(
    "FLD0006",
    "DL1001",
    Off,
    "a comment that ignores rules",
    "whoever may not ignore rules in files wants to hear of it",
    "write an entry with an owner and a day into the configuration",
);
pub(crate) const BLANK_CONTINUATION: Rule = Rule::new(
    "FLD0007",
    "",
    Warning,
    "a blank line within an instruction",
    "builders warn of it, and will refuse it one day",
    "remove the blank line",
)
.mending();
pub(crate) const UNUSED_IGNORE: Rule = Rule::new(
    "FLD0008",
    "",
    Info,
    "an ignore comment that ignores nothing",
    "what was ignored is gone, and the comment would hide it when it comes back",
    "remove the comment",
);
pub(crate) const UNTAGGED: Rule = Rule::new(
    "FLD0101",
    "DL3006",
    Warning,
    "a base image without a tag",
    "the builder takes `latest`, whatever that is on the day",
    "name a release and its digest",
);
pub(crate) const LATEST: Rule = Rule::new(
    "FLD0102",
    "DL3007",
    Warning,
    "a base image with the tag `latest`",
    "tomorrow's build is from another image, and nobody sees it in the file",
    "name a release and its digest",
);
pub(crate) const NO_DIGEST: Rule = Rule::new(
    "FLD0103",
    "",
    Info,
    "a base image without a digest",
    "a tag moves: the same file makes another image later",
    "write `image:tag@sha256:…`; a step `resolve` tells the digest",
);
pub(crate) const UNTRUSTED_REGISTRY: Rule = Rule::new(
    "FLD0104",
    "DL3026",
    Error,
    "a base image from a registry that is not trusted",
    "the configuration says which registries are",
    "take the image from one of them",
);
pub(crate) const FIXED_PLATFORM: Rule = Rule::new(
    "FLD0105",
    "DL3029",
    Warning,
    "`FROM --platform` with a fixed platform",
    "the image is of that platform wherever it is built",
    "leave the flag away, or write `$BUILDPLATFORM` or `$TARGETPLATFORM`",
);
pub(crate) const UNDEFINED_IN_FROM: Rule = Rule::new(
    "FLD0106",
    "",
    Warning,
    "`FROM` with a variable that no `ARG` before it declares",
    "it is empty, and the name of the image is another one",
    "declare it with `ARG` above the first `FROM`",
);
pub(crate) const REDUNDANT_PLATFORM: Rule = Rule::new(
    "FLD0107",
    "DL3065",
    Warning,
    "`FROM --platform=$TARGETPLATFORM`",
    "it says what holds without it",
    "leave the flag away",
)
.mending();
pub(crate) const ADD_FILES: Rule = Rule::new(
    "FLD0401",
    "DL3020",
    Error,
    "`ADD` for files and folders",
    "`ADD` unpacks and downloads by the look of a name",
    "use `COPY`",
)
.mending();
pub(crate) const ADD_ARCHIVE: Rule = Rule::new(
    "FLD0402",
    "DL3010",
    Info,
    "an archive is copied and then unpacked",
    "it stays in its layer beside what was in it",
    "use `ADD`, which unpacks it, or mount it into the `RUN`",
);
pub(crate) const COPY_MANY: Rule = Rule::new(
    "FLD0403",
    "DL3021",
    Error,
    "several sources and a destination without `/`",
    "the builder refuses it",
    "end the destination with `/`",
)
.mending();
pub(crate) const COPY_RELATIVE: Rule = Rule::new(
    "FLD0404",
    "DL3045",
    Warning,
    "`COPY` to a relative path without `WORKDIR`",
    "where it comes to lie depends on the base image",
    "set `WORKDIR`, or write an absolute path",
);
pub(crate) const ADD_UNCHECKED: Rule = Rule::new(
    "FLD0405",
    "",
    Warning,
    "a remote `ADD` without a checksum",
    "what is behind the address can change at any time",
    "add `--checksum=sha256:…`, or name a commit of a git repository",
);
pub(crate) const COPY_EARLY: Rule = Rule::new(
    "FLD0406",
    "",
    Warning,
    "everything is copied before dependencies are installed",
    "each change of any file installs all dependencies anew",
    "copy the lock file, install, then copy the rest",
);
pub(crate) const COPY_SECRET: Rule = Rule::new(
    "FLD0407",
    "",
    Error,
    "a file of secrets is copied into the image",
    "whoever can pull the image can read it, from its layer even when it is deleted later",
    "use `RUN --mount=type=secret`",
);
pub(crate) const COPY_THEN_CHANGE: Rule = Rule::new(
    "FLD0408",
    "",
    Info,
    "owner or mode are changed in a layer of their own",
    "every file is in the image twice",
    "use `COPY --chown` and `COPY --chmod`",
);
pub(crate) const FROM_UNKNOWN: Rule = Rule::new(
    "FLD0501",
    "DL3022",
    Warning,
    "`COPY --from` something that is no stage",
    "it is pulled as an image, and a misspelled stage fails late",
    "name a stage, or an image with its digest",
);
pub(crate) const FROM_SELF: Rule = Rule::new(
    "FLD0502",
    "DL3023",
    Error,
    "`COPY --from` its own stage",
    "the builder refuses it",
    "name another stage",
);
pub(crate) const STAGE_TWICE: Rule = Rule::new(
    "FLD0503",
    "DL3024",
    Error,
    "two stages with one name",
    "what refers to it means the one that is last",
    "give each a name of its own",
);
pub(crate) const STAGE_UNUSED: Rule = Rule::new(
    "FLD0504",
    "",
    Info,
    "a stage that nothing uses",
    "the builder leaves it out, so what it checks is not checked",
    "remove it, or build it as a `--target`",
);
pub(crate) const STAGE_RESERVED: Rule = Rule::new(
    "FLD0505",
    "DL3063",
    Warning,
    "a stage with a reserved name",
    "`scratch` and `context` mean something else",
    "give it another name",
);
pub(crate) const TOOLCHAIN: Rule = Rule::new(
    "FLD0506",
    "",
    Warning,
    "the final image is the one with the toolchain",
    "compilers and sources are shipped",
    "build in one stage, and copy the result into a small image",
);
pub(crate) const FROM_LATER: Rule = Rule::new(
    "FLD0507",
    "",
    Error,
    "`COPY --from` a stage that comes later",
    "the builder does not know it yet, and looks for an image of that name",
    "move the stage up",
);
pub(crate) const AS_CASE: Rule = Rule::new(
    "FLD0508",
    "",
    Style,
    "`as` in small letters beside a `FROM` in capitals, or the other way round",
    "builders warn of it",
    "write both alike",
)
.mending();
pub(crate) const ROOT_USER: Rule = Rule::new(
    "FLD0601",
    "DL3002",
    Warning,
    "the last `USER` is root",
    "a process that is broken into has every right in the container",
    "end with a user of its own",
);
pub(crate) const NO_USER: Rule = Rule::new(
    "FLD0602",
    "",
    Warning,
    "no `USER`",
    "the process runs as root, unless the base image says otherwise",
    "add a user and name it",
);
pub(crate) const NO_HEALTHCHECK: Rule = Rule::new(
    "FLD0603",
    "DL3057",
    Info,
    "no `HEALTHCHECK`",
    "an engine cannot tell a program that hangs from one that works; Kubernetes has probes of its own",
    "add one, or `HEALTHCHECK NONE` where something else looks",
);
pub(crate) const HEALTHCHECKS: Rule = Rule::new(
    "FLD0604",
    "DL3012",
    Error,
    "several `HEALTHCHECK`s in a stage",
    "only the last one counts",
    "keep one",
);
pub(crate) const CMDS: Rule = Rule::new(
    "FLD0605",
    "DL4003",
    Warning,
    "several `CMD`s in a stage",
    "only the last one counts",
    "keep one",
);
pub(crate) const ENTRYPOINTS: Rule = Rule::new(
    "FLD0606",
    "DL4004",
    Error,
    "several `ENTRYPOINT`s in a stage",
    "only the last one counts",
    "keep one",
);
pub(crate) const SHELL_FORM: Rule = Rule::new(
    "FLD0607",
    "DL3025",
    Warning,
    "`CMD` or `ENTRYPOINT` as shell text",
    "a shell is the process then, and does not pass signals on",
    "write it as a list: `[\"program\", \"argument\"]`",
)
.mending();
pub(crate) const RELATIVE_WORKDIR: Rule = Rule::new(
    "FLD0608",
    "DL3000",
    Error,
    "a relative `WORKDIR`",
    "where it leads depends on the base image",
    "write an absolute path",
);
pub(crate) const PORT: Rule = Rule::new(
    "FLD0609",
    "DL3011",
    Error,
    "a port that cannot be",
    "ports are 0 to 65535",
    "name one that can be",
);
pub(crate) const MAINTAINER: Rule = Rule::new(
    "FLD0610",
    "DL4000",
    Error,
    "`MAINTAINER`",
    "it is deprecated",
    "write `LABEL org.opencontainers.image.authors=\"…\"`",
)
.mending();
pub(crate) const SELF_REFERENCE: Rule = Rule::new(
    "FLD0611",
    "DL3044",
    Error,
    "`ENV` refers to what the same `ENV` sets",
    "it is the value from before, mostly nothing",
    "use two `ENV`s",
);
pub(crate) const UNDEFINED: Rule = Rule::new(
    "FLD0612",
    "",
    Warning,
    "a variable that nothing sets",
    "it is empty",
    "declare it with `ARG` or `ENV` in the same stage",
);
pub(crate) const SHELL_LEFT: Rule = Rule::new(
    "FLD0613",
    "",
    Off,
    "a shell in the final image",
    "whoever breaks in has a tool at hand",
    "build the final stage from `scratch` or a distroless image",
);
pub(crate) const SSH_PORT: Rule = Rule::new(
    "FLD0614",
    "",
    Warning,
    "port 22 is exposed",
    "a container is not logged in to",
    "use the engine's or the cluster's `exec`",
);
pub(crate) const USER_NAME: Rule = Rule::new(
    "FLD0615",
    "DL3066",
    Info,
    "`USER` is a name",
    "Kubernetes' `runAsNonRoot` cannot tell whether a name is root, and refuses it",
    "write the number of the user: `USER 10001`",
);
pub(crate) const SECRET_ENV: Rule = Rule::new(
    "FLD0701",
    "DL3064",
    Error,
    "a secret in `ENV`",
    "it is in the configuration of the image, which everybody who pulls it can read",
    "give it when the container starts, or `RUN --mount=type=secret` while it is built",
);
pub(crate) const SECRET_ARG: Rule = Rule::new(
    "FLD0702",
    "DL3064",
    Warning,
    "a secret in `ARG`",
    "build arguments are in the history of the image, and in its provenance",
    "use `RUN --mount=type=secret`",
);
pub(crate) const SECRET_TEXT: Rule = Rule::new(
    "FLD0703",
    "",
    Error,
    "a key or password in the file",
    "it is in the repository, in the image's history, and soon elsewhere",
    "take it back where it was issued, and mount a new one",
);
pub(crate) const LABEL_KEY: Rule = Rule::new(
    "FLD0801",
    "DL3048",
    Style,
    "the name of a label is not valid",
    "tools that read labels want names of small letters, digits, `.` and `-`",
    "write it like `org.opencontainers.image.title`",
);
pub(crate) const LABEL_MISSING: Rule = Rule::new(
    "FLD0802",
    "DL3049",
    Info,
    "a label is missing",
    "the configuration asks for it",
    "add it",
);
pub(crate) const LABEL_EXTRA: Rule = Rule::new(
    "FLD0803",
    "DL3050",
    Info,
    "a label that is not allowed",
    "the configuration names those that are",
    "remove it",
);
pub(crate) const LABEL_EMPTY: Rule = Rule::new(
    "FLD0804",
    "DL3051",
    Warning,
    "a label is empty",
    "it says nothing",
    "give it a value",
);
pub(crate) const LABEL_URL: Rule = Rule::new(
    "FLD0805",
    "DL3052",
    Warning,
    "a label is not a URL",
    "the configuration asks for one",
    "write one with its scheme",
);
pub(crate) const LABEL_TIME: Rule = Rule::new(
    "FLD0806",
    "DL3053",
    Warning,
    "a label is not a time",
    "the configuration asks for one of RFC 3339",
    "write it as `2026-01-31T12:00:00Z`",
);
pub(crate) const LABEL_LICENSE: Rule = Rule::new(
    "FLD0807",
    "DL3054",
    Warning,
    "a label is not a license",
    "the configuration asks for an identifier of SPDX",
    "write it as `Apache-2.0`",
);
pub(crate) const LABEL_HASH: Rule = Rule::new(
    "FLD0808",
    "DL3055",
    Warning,
    "a label is not a commit",
    "the configuration asks for a hash of git",
    "write 7 to 64 digits of it",
);
pub(crate) const LABEL_SEMVER: Rule = Rule::new(
    "FLD0809",
    "DL3056",
    Warning,
    "a label is not a version",
    "the configuration asks for a semantic version",
    "write it as `1.2.3`",
);
pub(crate) const LABEL_EMAIL: Rule = Rule::new(
    "FLD0810",
    "DL3058",
    Warning,
    "a label is not an address of mail",
    "the configuration asks for one",
    "write it as `team@example.com`",
);
pub(crate) const NO_IGNORE_FILE: Rule = Rule::new(
    "FLD0901",
    "",
    Warning,
    "the whole context is copied, and no .dockerignore keeps anything back",
    "`.git`, secrets and build output go to the builder and into the image",
    "add one",
);
pub(crate) const IGNORE_LETS_IN: Rule = Rule::new(
    "FLD0902",
    "",
    Warning,
    ".dockerignore lets in what should stay out",
    "the history, secrets and local build output come into the image",
    "add the line to .dockerignore",
);

/// Every rule, in the order of the codes.
pub const RULES: &[&Rule] = &[
    &SYNTAX,
    &ORDER,
    &KEYWORD_CASE,
    &OLD_PAIR,
    &ONBUILD_NESTED,
    &PRAGMA,
    &BLANK_CONTINUATION,
    &UNUSED_IGNORE,
    &UNTAGGED,
    &LATEST,
    &NO_DIGEST,
    &UNTRUSTED_REGISTRY,
    &FIXED_PLATFORM,
    &UNDEFINED_IN_FROM,
    &REDUNDANT_PLATFORM,
    &APT_PIN,
    &APT_LISTS,
    &APT_YES,
    &APT_RECOMMENDS,
    &APT_TOOL,
    &APT_SPLIT,
    &UPGRADE,
    &APK_PIN,
    &APK_CACHE,
    &PIP_PIN,
    &PIP_CACHE,
    &NPM_PIN,
    &GEM_PIN,
    &GO_PIN,
    &YUM_YES,
    &YUM_CLEAN,
    &YUM_PIN,
    &ZYPPER_YES,
    &ZYPPER_DUP,
    &ZYPPER_CLEAN,
    &ZYPPER_PIN,
    &DNF_YES,
    &DNF_CLEAN,
    &DNF_PIN,
    &YARN_CACHE,
    &NPM_CI,
    &NEEDLESS,
    &COMPILER,
    &POINTLESS,
    &CD,
    &SUDO,
    &TWO_LOADERS,
    &SHELL_LINK,
    &PIPEFAIL,
    &CONSECUTIVE,
    &USERADD,
    &WGET_PROGRESS,
    &PIPE_TO_SHELL,
    &WORLD_WRITABLE,
    &DELETED_LATER,
    &NO_CHECK,
    &PRIVILEGED_RUN,
    &ADD_FILES,
    &ADD_ARCHIVE,
    &COPY_MANY,
    &COPY_RELATIVE,
    &ADD_UNCHECKED,
    &COPY_EARLY,
    &COPY_SECRET,
    &COPY_THEN_CHANGE,
    &FROM_UNKNOWN,
    &FROM_SELF,
    &STAGE_TWICE,
    &STAGE_UNUSED,
    &STAGE_RESERVED,
    &TOOLCHAIN,
    &FROM_LATER,
    &AS_CASE,
    &ROOT_USER,
    &NO_USER,
    &NO_HEALTHCHECK,
    &HEALTHCHECKS,
    &CMDS,
    &ENTRYPOINTS,
    &SHELL_FORM,
    &RELATIVE_WORKDIR,
    &PORT,
    &MAINTAINER,
    &SELF_REFERENCE,
    &UNDEFINED,
    &SHELL_LEFT,
    &SSH_PORT,
    &USER_NAME,
    &SECRET_ENV,
    &SECRET_ARG,
    &SECRET_TEXT,
    &LABEL_KEY,
    &LABEL_MISSING,
    &LABEL_EXTRA,
    &LABEL_EMPTY,
    &LABEL_URL,
    &LABEL_TIME,
    &LABEL_LICENSE,
    &LABEL_HASH,
    &LABEL_SEMVER,
    &LABEL_EMAIL,
    &NO_IGNORE_FILE,
    &IGNORE_LETS_IN,
];
